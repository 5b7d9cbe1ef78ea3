"""Finding what Label Studio changed without telling us, once a minute.

Some changes send no webhook (an annotation turned back into a draft, annotations that come with an import),
and a webhook that arrives while we are down is never sent again.
"""

import logging
import time

from sqlalchemy import update

from backend.deployment import Deployment
from backend.labelstudio.client import LabelStudioError, ProjectNotFound
from backend.labelstudio.client import Project as RemoteProject
from backend.loop.connection import connect, disconnect, is_another
from backend.loop.events import MISSED, PROJECT_UPDATED, SKIPPED, TASK_ACTIONS, pending_events
from backend.loop.registration import backends_at
from backend.loop.rounds import unfinished_round
from backend.loop.sync import labels_differ
from backend.store.leases import lease
from backend.store.tables import Event, Project, ProjectState

log = logging.getLogger(__name__)

ON_ITS_WAY = 3.0  # seconds in which a webhook may still come, or the end of a round be noted


def notice_missed_changes(deployment: Deployment, project_id: int) -> None:
    """Compare Label Studio's project with the store, and note an event where they differ.

    A backend that was removed in Label Studio's user interface is taken as the wish to disconnect; a
    `disconnect` that was cut short goes on. Another server's project of that number is taken over anew.
    """
    with deployment.database.read() as session:
        project = session.get(Project, project_id)
    if project is None or project.state not in (ProjectState.ACTIVE, ProjectState.DISCONNECTING):
        return
    with lease(deployment.database, f"reconcile:{project_id}") as held:
        if held is not None:  # else another worker is at it: what it finds would be noted twice
            _compare(deployment, project)


def _compare(deployment: Deployment, project: Project) -> None:
    try:
        remote = _remote(deployment, project)
        if remote is None:
            return
        if is_another(project, remote):
            connect(deployment, project.id, backend_url=project.backend_url, add_backend=False)
            return
        removed = not backends_at(deployment, project.id, project.backend_url)
        if removed or project.state == ProjectState.DISCONNECTING:
            log.warning("the backend was removed in Label Studio; disconnecting")
            disconnect(deployment, project.id)
        elif _missed(deployment, project, remote):
            time.sleep(ON_ITS_WAY)
            with deployment.database.read() as session:
                project = session.get_one(Project, project.id)
            remote = _remote(deployment, project)
            if remote is not None and (action := _missed(deployment, project, remote)):
                log.info("Label Studio holds changes that no webhook told of")
                with deployment.database.write() as session:
                    session.add(Event(project_id=project.id, action=action, task_ids=[]))
    except LabelStudioError as error:
        log.warning("could not look for missed changes: %s", error)


def _remote(deployment: Deployment, project: Project) -> RemoteProject | None:
    """The project in Label Studio; None where it is gone, which is noted."""
    try:
        return deployment.label_studio.project(project.id)
    except ProjectNotFound as error:
        if not deployment.label_studio.lacks_project(project.id):
            raise
        with deployment.database.write() as session:
            gone = {"state": ProjectState.GONE, "problem": str(error)}
            session.execute(update(Project).where(Project.id == project.id).values(**gone))
        return None


def _missed(deployment: Deployment, project: Project, remote: RemoteProject) -> str | None:
    """The event that would tell of what differs; None where nothing does, or a sync is coming anyway."""
    if project.synced_until is None or unfinished_round(deployment, project.id):
        return None
    told = {event.action for event in pending_events(deployment.database, project)}
    if told - TASK_ACTIONS - {SKIPPED}:
        return None
    if remote.label_config != project.label_config:
        return PROJECT_UPDATED
    counts = (remote.task_count, remote.annotated_count)
    if counts != (project.synced_tasks, project.synced_annotated) and not told & TASK_ACTIONS:
        return MISSED
    return MISSED if labels_differ(deployment, project) else None
