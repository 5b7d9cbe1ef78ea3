"""What Label Studio tells us through its webhook: checked, committed, and only then answered."""

import hmac
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import delete, func, select, update

from backend.store.database import ROWS_PER_STATEMENT, Database
from backend.store.tables import LARGEST_ID, Event, Project, ProjectState, Task

SECRET_HEADER = "X-Active-Learning-Secret"  # noqa: S105 (its name, not its value)
START_TRAINING = "START_TRAINING"
PROJECT_UPDATED = "PROJECT_UPDATED"
SKIPPED = "ANNOTATION_SKIPPED"  # ours: Label Studio sends a skip as an annotation that was cancelled
MISSED = "MISSED"  # ours: Label Studio changed without a webhook
DAMAGED = "DAMAGED"  # ours: the served model, or its embeddings, cannot be read
SETTINGS_CHANGED = "SETTINGS_CHANGED"  # ours: the extra params are others than at the last /setup
ANNOTATION_ACTIONS = frozenset(
    {"ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"}
)
TASK_ACTIONS = frozenset({"TASKS_CREATED", "TASKS_DELETED"})
WEBHOOK_ACTIONS = sorted(ANNOTATION_ACTIONS | TASK_ACTIONS | {PROJECT_UPDATED})
KNOWN_ACTIONS = frozenset({*WEBHOOK_ACTIONS, START_TRAINING})


def new_secret() -> str:
    """A secret for the webhook of one project."""
    return secrets.token_urlsafe(32)


def secret_matches(database: Database, project_id: int, given: str | None) -> bool:
    """Whether a webhook call carries the project's secret; takes the same time whatever is given."""
    with database.read() as session:
        expected = session.scalar(select(Project.webhook_secret).where(Project.id == project_id))
    return bool(expected) and hmac.compare_digest((given or "").encode(), str(expected).encode())


def is_secret(database: Database, given: str | None) -> bool:
    """Whether it is the webhook secret of any project."""
    with database.read() as session:
        known = session.scalars(select(Project.webhook_secret).where(Project.webhook_secret != "")).all()
    matches = [hmac.compare_digest((given or "").encode(), secret.encode()) for secret in known]
    return any(matches)


def record(database: Database, action: str, project_id: int, payload: Mapping[str, Any]) -> bool:
    """Commit an event of a connected project.

    Returns whether it calls for work: an unknown project's does not, nor an unknown action, nor a
    change of the project that leaves the labeling config as it was (our own changes are such).
    """
    if action not in KNOWN_ACTIONS:
        return False
    with database.write() as session:
        project = session.get(Project, project_id)
        if project is None or project.state != ProjectState.ACTIVE:
            return False
        if action == PROJECT_UPDATED and _label_config(payload) in ("", project.label_config):
            return False
        task_ids = _task_ids(payload)
        if action in ANNOTATION_ACTIONS and _is_skip(payload):
            session.add(Event(project_id=project_id, action=SKIPPED, task_ids=task_ids))
        else:
            session.add(Event(project_id=project_id, action=action, task_ids=task_ids))
        # Labeled or deleted: the queue no longer waits for it.
        if (action in ANNOTATION_ACTIONS or action == "TASKS_DELETED") and task_ids:
            for start in range(0, len(task_ids), ROWS_PER_STATEMENT):
                named = Task.id.in_(task_ids[start : start + ROWS_PER_STATEMENT])
                touched = update(Task).where(Task.project_id == project_id, named).values(touched=True)
                session.execute(touched)
    return True


def last_event(database: Database, project_id: int) -> int:
    """Id of the newest event of a project; 0 where there is none."""
    with database.read() as session:
        return session.scalar(select(func.max(Event.id)).where(Event.project_id == project_id)) or 0


def pending_events(database: Database, project: Project) -> list[Event]:
    """Events that no sync has covered yet, oldest first."""
    with database.read() as session:
        return list(
            session.scalars(
                select(Event)
                .where(Event.project_id == project.id, Event.id > project.synced_event)
                .order_by(Event.id)
            )
        )


def forget_covered(database: Database, project_id: int, until: int) -> None:
    """Delete events that a sync has covered; the newest stays, so that ids never start again."""
    with database.write() as session:
        session.execute(delete(Event).where(Event.project_id == project_id, Event.id < until))


def _label_config(payload: Mapping[str, Any]) -> str:
    project = payload.get("project")
    config = project.get("label_config") if isinstance(project, Mapping) else None
    return config if isinstance(config, str) else ""


def _is_skip(payload: Mapping[str, Any]) -> bool:
    annotation = payload.get("annotation")
    return isinstance(annotation, Mapping) and annotation.get("was_cancelled") is True


def _task_ids(payload: Mapping[str, Any]) -> list[int]:
    """Ids of the tasks that an event names; deleted annotations come without their task."""
    tasks = payload.get("task", payload.get("tasks", []))
    listed: Iterable[Any] = tasks if isinstance(tasks, list) else [tasks]
    return [task["id"] for task in listed if isinstance(task, Mapping) and _is_id(task.get("id"))]


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 < value <= LARGEST_ID
