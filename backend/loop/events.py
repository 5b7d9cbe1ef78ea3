"""What Label Studio tells us through its webhook: checked, committed, and only then answered."""

import hmac
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from backend.store.database import ROWS_PER_STATEMENT, Database
from backend.store.tables import LARGEST_ID, Event, Project, ProjectState, Task
from backend.store.together import Together

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
ENDS_WAITING = ANNOTATION_ACTIONS | {SKIPPED, "TASKS_DELETED"}


def new_secret() -> str:
    """A secret for the webhook of one project."""
    return secrets.token_urlsafe(32)


def secret_matches(database: Database, project_id: int, given: str | None) -> bool:
    """Whether a webhook call carries the project's secret; takes the same time whatever is given."""
    expected = _secret(database, project_id)
    return bool(expected) and hmac.compare_digest((given or "").encode(), str(expected).encode())


def _secrets(database: Database, project_ids: Sequence[int]) -> list[str | None]:
    known = select(Project.id, Project.webhook_secret).where(Project.id.in_(set(project_ids)))
    with database.read() as session:
        secrets_of = dict(session.execute(known).all())
    return [secrets_of.get(project_id) for project_id in project_ids]


_secret = Together(_secrets)


def is_secret(database: Database, given: str | None) -> bool:
    """Whether it is the webhook secret of any project."""
    with database.read() as session:
        known = session.scalars(select(Project.webhook_secret).where(Project.webhook_secret != "")).all()
    matches = [hmac.compare_digest((given or "").encode(), secret.encode()) for secret in known]
    return any(matches)


def record(database: Database, action: str, project_id: int, payload: Mapping[str, Any]) -> bool:
    """Commit an event of a connected project, together with those that come at the same time.

    Returns whether it calls for work: an unknown project's does not, nor an unknown action, nor a
    change of the project that leaves the labeling config as it was (our own changes are such).
    """
    if action not in KNOWN_ACTIONS:
        return False
    skipped = action in ANNOTATION_ACTIONS and _is_skip(payload)
    noted = SKIPPED if skipped else action
    return _record(database, _Told(project_id, noted, _task_ids(payload), _label_config(payload)))


@dataclass(frozen=True)
class _Told:
    """What a webhook says."""

    project_id: int
    action: str
    task_ids: list[int]
    label_config: str


def _record_all(database: Database, told: Sequence[_Told]) -> list[bool]:
    with database.write() as session:
        chosen = Project.id.in_({one.project_id for one in told}) & (Project.state == ProjectState.ACTIVE)
        configs = dict(session.execute(select(Project.id, Project.label_config).where(chosen)).all())

        def calls_for_work(one: _Told) -> bool:
            if one.action == PROJECT_UPDATED:
                return one.label_config not in ("", configs.get(one.project_id, ""))
            return True

        taken = [one.project_id in configs and calls_for_work(one) for one in told]
        recorded = list(compress(told, taken))
        session.add_all(
            Event(project_id=e.project_id, action=e.action, task_ids=e.task_ids) for e in recorded
        )
        for project_id in configs:
            # Labeled or deleted: the queue no longer waits for it.
            ids = {
                i
                for e in recorded
                if e.project_id == project_id and e.action in ENDS_WAITING
                for i in e.task_ids
            }
            _touch(session, project_id, sorted(ids))
    return taken


_record = Together(_record_all)


def _touch(session: Session, project_id: int, task_ids: Sequence[int]) -> None:
    """Note that nobody waits for these tasks any more.

    Those whose rows a round is just writing are passed over: somebody waits for the webhook's answer. `touched` is but
    a hint; the event stays, and has the next sync read the task.
    """
    for start in range(0, len(task_ids), ROWS_PER_STATEMENT):
        named = Task.id.in_(task_ids[start : start + ROWS_PER_STATEMENT])
        free = select(Task.id).where(Task.project_id == project_id, named, ~Task.touched)
        touched = update(Task).where(
            Task.project_id == project_id, Task.id.in_(free.with_for_update(skip_locked=True))
        )
        session.execute(touched.values(touched=True), execution_options={"synchronize_session": False})


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
