"""Finding what Label Studio changed without telling us, once a minute.

Some changes send no webhook (an annotation turned back into a draft, annotations that come with an import),
and a webhook that arrives while we are down is never sent again.
"""

import logging

from backend.deployment import Deployment
from backend.labelstudio.client import LabelStudioError, ProjectNotFound
from backend.loop.connection import disconnect
from backend.loop.events import MISSED, PROJECT_UPDATED, pending_events
from backend.loop.rounds import unfinished_round
from backend.store.tables import Event, Project, ProjectState

log = logging.getLogger(__name__)


def notice_missed_changes(deployment: Deployment, project_id: int) -> None:
    """Compare Label Studio's own counts with those of the last sync, and note an event where they differ.

    A backend that was removed in Label Studio's user interface is taken as the wish to disconnect.
    """
    with deployment.database.read() as session:
        project = session.get(Project, project_id)
    if project is None or project.synced_until is None or unfinished_round(deployment, project_id):
        return
    try:
        remote = deployment.label_studio.project(project_id)
        backends = deployment.label_studio.backends(project_id)
        if not any(backend.url.rstrip("/") == project.backend_url for backend in backends):
            log.warning("project %d: the backend was removed in Label Studio; disconnecting", project_id)
            disconnect(deployment, project_id)
            return
    except ProjectNotFound as error:
        with deployment.database.write() as session:
            row = session.get_one(Project, project_id)
            row.state, row.problem = ProjectState.GONE, str(error)
        return
    except LabelStudioError as error:
        log.warning("project %d: could not look for missed changes: %s", project_id, error)
        return
    if pending_events(deployment.database, project):
        return  # a sync is coming anyway
    if remote.label_config != project.label_config:
        action = PROJECT_UPDATED
    elif (remote.task_count, remote.annotated_count) != (project.synced_tasks, project.synced_annotated):
        action = MISSED
    else:
        return
    log.info("project %d: Label Studio holds changes that no webhook told of", project_id)
    with deployment.database.write() as session:
        session.add(Event(project_id=project_id, action=action, task_ids=[]))
