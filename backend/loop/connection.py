"""Connecting a Label Studio project to the loop, and putting it back as it was."""

import logging
import shutil
from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, select, update

from backend.deployment import Deployment
from backend.labelstudio.client import LabelStudioError, Webhook
from backend.labelstudio.client import Project as RemoteProject
from backend.labelstudio.labeling_config import read_labeling_config
from backend.loop.events import PROJECT_UPDATED, SECRET_HEADER, SETTINGS_CHANGED, WEBHOOK_ACTIONS, new_secret
from backend.loop.events import last_event as newest_event
from backend.loop.prediction import NO_MODEL_VERSION
from backend.loop.rounds import served_round
from backend.settings import LoopSettings
from backend.store.database import Database, upsert
from backend.store.leases import lease
from backend.store.tables import Event, Project, ProjectState, Round

log = logging.getLogger(__name__)

TITLE = "Active learning"
UNCERTAINTY_SAMPLING = "Uncertainty sampling"


class NotConnected(LabelStudioError):
    """The project has no ML backend that points to us."""


class ConnectingElsewhere(LabelStudioError):
    """Another process is connecting the project right now."""


def connect(deployment: Deployment, project_id: int, *, backend_url: str, add_backend: bool = True) -> bool:
    """Take a project to a working loop; returns whether anything had to be changed.

    add_backend: register the backend in Label Studio; False where a person has done so, who may also have
        removed it again.

    Raises:
        UnsupportedConfig, InvalidSettings: the project cannot be learned as it is.
        NotConnected: the backend is to be found registered, but it is not.
        LabelStudioError: Label Studio cannot be reached or refuses; running `connect` again goes on.
    """
    with lease(deployment.database, f"connect:{project_id}") as held:
        if held is None:
            raise ConnectingElsewhere(f"Project {project_id} is being connected by another process.")
        return _connect(deployment, project_id, backend_url, add_backend)


def _connect(deployment: Deployment, project_id: int, backend_url: str, add_backend: bool) -> bool:
    label_studio = deployment.label_studio
    remote = label_studio.project(project_id)
    control = read_labeling_config(remote.label_config)
    project = _remember(deployment, remote, backend_url)
    LoopSettings.resolve(control.settings, project.extra_params)

    backends = label_studio.backends(project_id)
    registered = any(backend.url.rstrip("/") == backend_url for backend in backends)
    if not registered and not add_backend:
        _set_state(deployment, project_id, ProjectState.DISCONNECTED)
        raise NotConnected(f"Project {project_id} has no ML backend at {backend_url}.")
    # Before the backend: Label Studio makes a webhook of its own, open and for all events, unless it finds one.
    changed = _ensure_webhook(deployment, project)
    if not registered:
        label_studio.add_backend(project_id, backend_url, TITLE, deployment.settings.basic_auth)
        changed = True
    if remote.sampling != UNCERTAINTY_SAMPLING:
        label_studio.set_sampling(project_id, UNCERTAINTY_SAMPLING)
        changed = True
    if project.state != ProjectState.ACTIVE:
        _set_state(deployment, project_id, ProjectState.ACTIVE)
        changed = True
    return changed


def disconnect(deployment: Deployment, project_id: int) -> None:
    """Put a project back as it was before `connect`; its labels stay, the rounds' history too.

    Raises:
        NotConnected: we know no such project.
        LabelStudioError: Label Studio cannot be reached or refuses; running `disconnect` again goes on.
    """
    with deployment.database.read() as session:
        project = session.get(Project, project_id)
        versions = set(session.scalars(select(Round.version).where(Round.project_id == project_id)))
    if project is None:
        raise NotConnected(f"Project {project_id} is not connected; see `active-learning status`.")
    if project.state != ProjectState.GONE:
        # From here on, Label Studio's calls to /setup no longer start the loop anew.
        _set_state(deployment, project_id, ProjectState.DISCONNECTING)
        label_studio = deployment.label_studio
        for webhook in label_studio.webhooks(project_id):
            if webhook.url == project.backend_url + "/webhook":
                label_studio.delete_webhook(webhook.id)
        for backend in label_studio.backends(project_id):
            if backend.url.rstrip("/") == project.backend_url:
                label_studio.delete_backend(backend.id)
        stored = label_studio.model_versions(project_id)
        restored = project.restore.get("model_version") or ""
        label_studio.set_model_version(project_id, restored if restored in stored else "")
        for version in sorted((versions | {NO_MODEL_VERSION}) & stored.keys()):
            label_studio.delete_predictions(project_id, version)
        if sampling := project.restore.get("sampling"):
            label_studio.set_sampling(project_id, sampling)
    _set_state(deployment, project_id, ProjectState.DISCONNECTED)
    with deployment.database.write() as session:
        session.execute(update(Project).where(Project.id == project_id).values(published_round=None))


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
    """
    control = read_labeling_config(label_config)
    LoopSettings.resolve(control.settings, extra_params)
    with deployment.database.read() as session:
        project = session.get(Project, project_id)
    settled = (ProjectState.DISCONNECTED, ProjectState.GONE)
    if project is None or project.state in settled or project.created != created:
        _forget_namesake(deployment, project, created)
        row = {
            "id": project_id,
            "created": created,
            "state": ProjectState.CONNECTING,
            "problem": None,
            "backend_url": backend_url,
            "extra_params": dict(extra_params),
        }
        with deployment.database.write() as session:
            upsert(session, Project, [{**_defaults(project), **row}])
        return NO_MODEL_VERSION, True
    changed = _note_changes(deployment.database, project, label_config, extra_params)
    served = served_round(deployment, project_id)
    return (served.version if served else NO_MODEL_VERSION), changed


def _note_changes(
    database: Database, project: Project, label_config: str, extra_params: Mapping[str, Any]
) -> bool:
    actions = []
    if project.label_config and label_config != project.label_config:
        actions.append(PROJECT_UPDATED)
    if dict(extra_params) != project.extra_params:
        actions.append(SETTINGS_CHANGED)
    if not actions or project.state == ProjectState.DISCONNECTING:
        return False
    with database.write() as session:
        session.execute(
            update(Project).where(Project.id == project.id).values(extra_params=dict(extra_params))
        )
        session.add_all(Event(project_id=project.id, action=action, task_ids=[]) for action in actions)
    return True


def _remember(deployment: Deployment, remote: RemoteProject, backend_url: str) -> Project:
    """The project's row, made or brought up to date, with what `disconnect` will put back."""
    created = int(remote.created_at.timestamp())
    with deployment.database.read() as session:
        project = session.get(Project, remote.id)
    if project is not None and project.state == ProjectState.ACTIVE and project.created == created:
        return project
    _forget_namesake(deployment, project, created)
    restore: dict[str, Any] = {"sampling": remote.sampling, "model_version": remote.model_version}
    if project is not None and project.state == ProjectState.CONNECTING and project.restore:
        restore = project.restore  # an earlier `connect` stopped half-way, after changing some of it
    row = {
        **_defaults(project),
        "id": remote.id,
        "created": created,
        "title": remote.title,
        "state": ProjectState.CONNECTING,
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
        "restore": {},
        "synced_until": None,
        "synced_event": 0,
        "synced_tasks": 0,
        "synced_annotated": 0,
        "annotations_per_task": 1,
        "audit_share": 0.0,
    }


def _forget_namesake(deployment: Deployment, project: Project | None, created: int) -> None:
    """Another Label Studio's project had the same number: nothing of it may be mixed with this one's."""
    if project is None or project.created == created:
        return
    log.warning(
        "project %d is another one than before; what was stored of the old one is deleted", project.id
    )
    with deployment.database.write() as session:
        session.execute(delete(Event).where(Event.project_id == project.id))
        session.execute(delete(Project).where(Project.id == project.id))
    deployment.embeddings.delete_project(project.id)
    shutil.rmtree(deployment.project_folder(project.id), ignore_errors=True)


def _ensure_webhook(deployment: Deployment, project: Project) -> bool:
    """Have exactly one webhook to us: with our secret, for just the events that matter."""
    url = project.backend_url + "/webhook"
    ours = [webhook for webhook in deployment.label_studio.webhooks(project.id) if webhook.url == url]
    good = [webhook for webhook in ours if _is_good(webhook, project.webhook_secret)]
    if not good:
        headers = {SECRET_HEADER: project.webhook_secret}
        deployment.label_studio.create_webhook(project.id, url, headers, WEBHOOK_ACTIONS)
    for webhook in ours:
        if webhook not in good[:1]:
            deployment.label_studio.delete_webhook(webhook.id)
    return not good or len(ours) > 1


def _is_good(webhook: Webhook, secret: str) -> bool:
    return (
        webhook.is_active
        and webhook.headers.get(SECRET_HEADER) == secret
        and not webhook.send_for_all_actions
        and sorted(webhook.actions) == WEBHOOK_ACTIONS
    )


def _set_state(deployment: Deployment, project_id: int, state: ProjectState) -> None:
    with deployment.database.write() as session:
        session.execute(update(Project).where(Project.id == project_id).values(state=state, problem=None))
