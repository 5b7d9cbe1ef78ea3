"""Connecting a Label Studio project to the loop, and putting it back as it was."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import delete, select, update

from backend.deployment import Deployment
from backend.labelstudio.client import LabelStudioError, ProjectNotFound
from backend.labelstudio.client import Project as RemoteProject
from backend.labelstudio.labeling_config import read_labeling_config
from backend.loop.events import PROJECT_UPDATED, new_secret, note_settings
from backend.loop.events import last_event as newest_event
from backend.loop.prediction import NO_MODEL_VERSION
from backend.loop.registration import (
    backends_at,
    ensure_webhook,
    register,
    same_address,
    withdraw,
    without_password,
)
from backend.loop.rounds import served_round
from backend.settings import LoopSettings
from backend.store.artifacts import project_artifacts
from backend.store.database import Database, upsert
from backend.store.leases import lease
from backend.store.tables import Event, Project, ProjectState, Round, RoundState, now

log = logging.getLogger(__name__)

UNCERTAINTY_SAMPLING = "Uncertainty sampling"
PUBLISHING_TIMEOUT = 60.0  # seconds that `disconnect` waits for a worker that publishes


class NotConnected(LabelStudioError):
    """The project has no ML backend that points to us."""


class ConnectingElsewhere(LabelStudioError):
    """Another process is connecting or disconnecting the project right now."""


class PerhapsAnother(Exception):
    """A call told of a project of a known number that was made at another time: as one of another Label Studio is."""


def connect(deployment: Deployment, project_id: int, *, backend_url: str, add_backend: bool = True) -> bool:
    """Take a project to a working loop; returns whether anything had to be changed.

    add_backend: register the backend in Label Studio; False where a person has done so, who may also have
        removed it again.

    Raises:
        UnsupportedConfig, InvalidSettings: the project cannot be learned as it is.
        NotConnected: the backend is to be found registered, but it is not.
        LabelStudioError: Label Studio cannot be reached or refuses; running `connect` again goes on.
    """
    with _alone(deployment, project_id):
        return _connect(deployment, project_id, backend_url, add_backend)


def _connect(deployment: Deployment, project_id: int, backend_url: str, add_backend: bool) -> bool:
    label_studio = deployment.label_studio
    remote = label_studio.project(project_id)
    config = read_labeling_config(remote.label_config)
    registered = backends_at(deployment, project_id, backend_url)
    stored = _stored(deployment, project_id)
    if registered:  # written as Label Studio calls it, which a proxy may hide from us
        backend_url = without_password(registered[0].url)
        extra_params = registered[0].extra_params
    else:
        extra_params = stored.extra_params if stored else {}
    LoopSettings.resolve(config.settings, extra_params)
    if not registered and not add_backend:
        _set_state(deployment, project_id, ProjectState.DISCONNECTED)
        raise NotConnected(f"Project {project_id} has no ML backend at {backend_url}.")

    project = _remember(deployment, remote, backend_url)
    try:
        # Before the backend: Label Studio makes a webhook of its own, open and for all events, unless it finds one.
        changed = ensure_webhook(deployment, project)
        if not registered:
            register(deployment, project, extra_params)
            changed = True
    except LabelStudioError:
        if project.state != ProjectState.ACTIVE and add_backend:
            _set_state(deployment, project_id, ProjectState.DISCONNECTED)
        raise
    if remote.sampling != UNCERTAINTY_SAMPLING:
        label_studio.set_sampling(project_id, UNCERTAINTY_SAMPLING)
        changed = True
    if project.state != ProjectState.ACTIVE:
        _begin(deployment, project_id)
        changed = True
    return changed


def _begin(deployment: Deployment, project_id: int) -> None:
    """Have the loop run; the event lets a first round begin, also after one that failed."""
    with deployment.database.write() as session:
        session.execute(
            update(Project).where(Project.id == project_id).values(state=ProjectState.ACTIVE, problem=None)
        )
        session.add(Event(project_id=project_id, action=PROJECT_UPDATED, task_ids=[]))


def disconnect(deployment: Deployment, project_id: int) -> None:
    """Put a project back as it was before `connect`; its labels stay, the rounds' history too.

    Of a project that Label Studio no longer has, all that we hold is deleted.

    Raises:
        NotConnected: we know no such project.
        LabelStudioError: Label Studio cannot be reached or refuses; running `disconnect` again goes on, and so
            does the worker.
    """
    with _alone(deployment, project_id):
        project = _stored(deployment, project_id)
        if project is None:
            raise NotConnected(f"Project {project_id} is not connected; see `active-learning status`.")
        try:
            remote = deployment.label_studio.project(project_id)
        except ProjectNotFound:
            _forget(deployment, project_id)
            return
        if is_another(project, remote):
            _forget(deployment, project_id)
            return
        # From here on, no round publishes, and Label Studio's calls to /setup do not start the loop anew.
        _set_state(deployment, project_id, ProjectState.DISCONNECTING)
        with _publishing_stopped(deployment, project_id):
            withdraw(deployment, project)
            _restore(deployment, project)
        _end_round(deployment, project_id)
        _set_state(deployment, project_id, ProjectState.DISCONNECTED)


def _restore(deployment: Deployment, project: Project) -> None:
    """Put the project's settings back, unless a person has changed them since, and delete our predictions."""
    label_studio = deployment.label_studio
    with deployment.database.read() as session:
        ours = set(session.scalars(select(Round.version).where(Round.project_id == project.id)))
    ours.add(NO_MODEL_VERSION)
    remote = label_studio.project(project.id)
    stored = label_studio.model_versions(project.id)
    if remote.model_version is None or remote.model_version in ours:
        before = project.restore.get("model_version")
        titles = {backend.title for backend in label_studio.backends(project.id)}
        label_studio.set_model_version(project.id, before if before in {*stored, *titles} - ours else "")
    for version in sorted(ours & stored.keys()):
        label_studio.delete_predictions(project.id, version)
    sampling = project.restore.get("sampling")
    if sampling and remote.sampling == UNCERTAINTY_SAMPLING:
        label_studio.set_sampling(project.id, sampling)


def _end_round(deployment: Deployment, project_id: int) -> None:
    """Nothing is served any more, and a round that waits does not go on."""
    with deployment.database.write() as session:
        session.execute(update(Project).where(Project.id == project_id).values(published_round=None))
        session.execute(
            update(Round)
            .where(Round.project_id == project_id, Round.state.in_((RoundState.RUNNING, RoundState.WAITING)))
            .values(state=RoundState.FAILED, error="The project was disconnected.", finished_at=now())
        )


def setup_called(
    deployment: Deployment,
    project_id: int,
    created: int,
    label_config: str,
    extra_params: Mapping[str, Any],
    backend_url: str,
) -> tuple[str, bool]:
    """Label Studio has called /setup: someone connects, or it polls. Cheap, and calls nothing itself.

    Returns the model version that is served, and whether there is something for a worker to do.

    Raises:
        UnsupportedConfig, InvalidSettings: the sentence is for the person who connects.
        NotConnected: a worker has tried to take the project over and could not, as the sentence says.
        PerhapsAnother: nothing was changed, since whoever reaches us may call; Label Studio must be asked.
    """
    config = read_labeling_config(label_config)
    LoopSettings.resolve(config.settings, extra_params)
    project = _stored(deployment, project_id)
    if project is None or project.state in (ProjectState.DISCONNECTED, ProjectState.GONE):
        row = {
            "id": project_id,
            "created": project.created if project else created,
            "state": ProjectState.CONNECTING,
            "problem": None,
            "backend_url": backend_url,
            "extra_params": dict(extra_params),
        }
        with deployment.database.write() as session:
            upsert(session, Project, [{**_defaults(project), **row}])
        return NO_MODEL_VERSION, True
    if project.state == ProjectState.CONNECTING and project.problem:
        raise NotConnected(project.problem)
    if project.created != created:
        raise PerhapsAnother
    changed = _note_changes(deployment.database, project, label_config, extra_params)
    served = served_round(deployment, project_id)
    return (served.version if served else NO_MODEL_VERSION), changed


def _note_changes(
    database: Database, project: Project, label_config: str, extra_params: Mapping[str, Any]
) -> bool:
    new_config = bool(project.label_config) and label_config != project.label_config
    changed = new_config or dict(extra_params) != project.extra_params
    if not changed or project.state == ProjectState.DISCONNECTING:
        return False
    with database.write() as session:
        note_settings(session, project.id, extra_params)
        if new_config:
            session.add(Event(project_id=project.id, action=PROJECT_UPDATED, task_ids=[]))
    return True


def _remember(deployment: Deployment, remote: RemoteProject, backend_url: str) -> Project:
    """The project's row, made or brought up to date, with what `disconnect` will put back."""
    project = _known(deployment, remote)
    restore: dict[str, Any] = {"sampling": remote.sampling, "model_version": remote.model_version}
    if project is not None and project.state != ProjectState.DISCONNECTED:
        if project.state == ProjectState.ACTIVE and project.backend_url == backend_url:
            return project
        # An earlier `connect` or `disconnect` stopped half-way, after changing some of it.
        restore = project.restore or restore
        if not same_address(project.backend_url, backend_url):
            withdraw(deployment, project)  # the backend has moved
    row = {
        **_defaults(project),
        "id": remote.id,
        "created": _created(remote),
        "title": remote.title,
        "state": ProjectState.CONNECTING,
        "problem": None,
        "backend_url": backend_url,
        "restore": restore,
        "synced_until": None,
        "synced_event": newest_event(deployment.database, remote.id),
    }
    with deployment.database.write() as session:
        upsert(session, Project, [row])
    with deployment.database.read() as session:
        return session.get_one(Project, remote.id)


def _defaults(project: Project | None) -> dict[str, Any]:
    """Columns that must be given when the row is new; kept where it exists."""
    return {
        "title": project.title if project else "",
        "label_config": "",
        "extra_params": project.extra_params if project else {},
        "webhook_secret": (project.webhook_secret if project else "") or new_secret(),
        "restore": project.restore if project else {},
        "synced_until": None,
        "synced_event": 0,
        "synced_tasks": 0,
        "synced_annotated": 0,
        "annotations_per_task": 1,
        "audit_share": 0.0,
    }


def _known(deployment: Deployment, remote: RemoteProject) -> Project | None:
    """The project's row; where another Label Studio's project had the same number, that one is forgotten."""
    project = _stored(deployment, remote.id)
    if project is None or not is_another(project, remote):
        return project
    log.warning("project %d is another one than before; what was stored of the old one is deleted", remote.id)
    _forget(deployment, remote.id)
    return None


def is_another(project: Project, remote: RemoteProject) -> bool:
    """Whether what we hold is of another server's project of that number."""
    return project.created != _created(remote)


def _created(remote: RemoteProject) -> int:
    """As Label Studio tells it to its backends."""
    return int(remote.created_at.timestamp())


def _forget(deployment: Deployment, project_id: int) -> None:
    """Delete all that we hold of a project."""
    with deployment.database.write() as session:
        session.execute(delete(Event).where(Event.project_id == project_id))
        session.execute(delete(Project).where(Project.id == project_id))
    deployment.embeddings.delete_project(project_id)
    deployment.artifacts.delete(project_artifacts(project_id))


@contextmanager
def _alone(deployment: Deployment, project_id: int) -> Iterator[None]:
    with lease(deployment.database, f"connect:{project_id}") as held:
        if held is None:
            raise ConnectingElsewhere(
                f"Project {project_id} is being connected or disconnected by another process; try again."
            )
        yield


@contextmanager
def _publishing_stopped(deployment: Deployment, project_id: int) -> Iterator[None]:
    """Wait for a worker that is publishing right now; others find that the project is not active."""
    with lease(deployment.database, f"publish:{project_id}", wait=PUBLISHING_TIMEOUT) as held:
        if held is None:
            raise ConnectingElsewhere(f"A worker is publishing for project {project_id}; try again.")
        yield


def _stored(deployment: Deployment, project_id: int) -> Project | None:
    with deployment.database.read() as session:
        return session.get(Project, project_id)


def _set_state(deployment: Deployment, project_id: int, state: ProjectState) -> None:
    with deployment.database.write() as session:
        session.execute(update(Project).where(Project.id == project_id).values(state=state, problem=None))
