"""What Label Studio tells us through its webhook: checked, committed, and only then answered."""

import hmac
import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import BindParameter, Connection, Row, bindparam, delete, func, insert, select, update
from sqlalchemy.orm import Session

from backend.store.database import ROWS_PER_STATEMENT, Database
from backend.store.tables import LARGEST_ID, Event, Project, ProjectState, Task, now
from backend.store.together import Together

SECRET_HEADER = "X-Active-Learning-Secret"  # noqa: S105 (its name, not its value)
START_TRAINING = "START_TRAINING"
PROJECT_UPDATED = "PROJECT_UPDATED"
TASKS_CREATED = "TASKS_CREATED"
TASKS_DELETED = "TASKS_DELETED"
ANNOTATIONS_DELETED = "ANNOTATIONS_DELETED"
SKIPPED = "ANNOTATION_SKIPPED"  # ours: Label Studio sends a skip as an annotation that was cancelled
UNKNOWN = ""  # ours: whatever Label Studio may come to tell
MISSED = "MISSED"  # ours: Label Studio changed without a webhook
DAMAGED = "DAMAGED"  # ours: the served model, or its embeddings, cannot be read
SETTINGS_CHANGED = "SETTINGS_CHANGED"  # ours: the extra params are others than at the last /setup
ANNOTATION_ACTIONS = frozenset(
    {"ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED", ANNOTATIONS_DELETED}
)
TASK_ACTIONS = frozenset({TASKS_CREATED, TASKS_DELETED})
WEBHOOK_ACTIONS = sorted(ANNOTATION_ACTIONS | TASK_ACTIONS | {PROJECT_UPDATED})
KNOWN_ACTIONS = frozenset({*WEBHOOK_ACTIONS, START_TRAINING})
ENDS_WAITING = ANNOTATION_ACTIONS | {SKIPPED, TASKS_DELETED}
LULL = 15.0  # seconds without a label
APART = 0.03  # seconds between two transactions that record events, so that a burst of webhooks shares them


class Outcome(StrEnum):
    """What becomes of an event."""

    RECORDED = "recorded"
    IGNORED = "ignored"
    """It calls for no work: the project is not connected, the action is unknown, or nothing has changed."""
    REFUSED = "refused"
    """It lacks the secret of its project."""


def new_secret() -> str:
    """A secret for the webhook of one project."""
    return secrets.token_urlsafe(32)


def is_secret(database: Database, given: str | None) -> bool:
    """Whether it is the webhook secret of any project."""
    with database.read() as session:
        known = session.scalars(select(Project.webhook_secret).where(Project.webhook_secret != "")).all()
    matches = [_is_same(given or "", secret) for secret in known]
    return any(matches)


def record(
    database: Database, action: str, project_id: int, payload: Mapping[str, Any], secret: str | None = None
) -> Outcome:
    """Commit an event of a connected project, together with those that come at the same time.

    secret: what the caller gave as the project's; None: it is known otherwise who the caller is.
    """
    skipped = action in ANNOTATION_ACTIONS and _is_skip(payload)
    noted = SKIPPED if skipped else action if action in KNOWN_ACTIONS else UNKNOWN
    return _record(database, _Told(project_id, noted, _task_ids(payload), _label_config(payload), secret))


@dataclass(frozen=True)
class _Told:
    """What a webhook says."""

    project_id: int
    action: str
    task_ids: list[int]
    label_config: str
    secret: str | None


# Statements are written once, not for each transaction.
_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
_PROJECTS = select(Project.id, Project.webhook_secret, Project.state, Project.label_config).where(
    Project.id.in_(_IDS)
)
_INSERT = insert(Event).returning(Event.id)  # what is returned makes one statement of many rows
_OF_PROJECT = Task.project_id == bindparam("project")
_FREE = select(Task.id).where(_OF_PROJECT, Task.id.in_(_IDS), ~Task.touched).with_for_update(skip_locked=True)
_TOUCH = update(Task).where(_OF_PROJECT, Task.id.in_(_FREE)).values(touched=True)


def _record_all(database: Database, told: Sequence[_Told]) -> list[Outcome]:
    """In one transaction, and past the session, whose bookkeeping costs as much again: hundreds may come a second."""
    with database.write() as session:
        connection = session.connection()
        rows = connection.execute(_PROJECTS, {"ids": list({one.project_id for one in told})})
        known = {row.id: row for row in rows}
        outcomes = [_outcome(one, known.get(one.project_id)) for one in told]
        recorded = [one for one, outcome in zip(told, outcomes, strict=True) if outcome == Outcome.RECORDED]
        if recorded:
            _write(connection, recorded)
    return outcomes


def _outcome(told: _Told, project: Row[int, str, str, str] | None) -> Outcome:
    secret = project.webhook_secret if project else ""
    if told.secret is not None and not (secret and _is_same(told.secret, secret)):
        return Outcome.REFUSED
    if told.action == UNKNOWN or project is None or project.state != ProjectState.ACTIVE:
        return Outcome.IGNORED
    if told.action == PROJECT_UPDATED and told.label_config in ("", project.label_config):
        return Outcome.IGNORED  # our own changes of a project leave the labeling config as it was
    return Outcome.RECORDED


def _write(connection: Connection, told: Sequence[_Told]) -> None:
    rows = [{"project_id": one.project_id, "action": one.action, "task_ids": one.task_ids} for one in told]
    connection.execute(_INSERT, rows)
    done: defaultdict[int, set[int]] = defaultdict(set)  # labeled or deleted: the queue no longer waits
    for one in told:
        if one.action in ENDS_WAITING:
            done[one.project_id].update(one.task_ids)
    for project_id, task_ids in done.items():
        _touch(connection, project_id, sorted(task_ids))


_record = Together(_record_all, apart=APART)


def _touch(connection: Connection, project_id: int, task_ids: Sequence[int]) -> None:
    """Note that nobody waits for these tasks any more.

    Those whose rows a round is just writing are passed over: somebody waits for the webhook's answer. `touched` is but
    a hint; the event stays, and has the next sync read the task.
    """
    for start in range(0, len(task_ids), ROWS_PER_STATEMENT):
        ids = task_ids[start : start + ROWS_PER_STATEMENT]
        connection.execute(_TOUCH, {"project": project_id, "ids": ids})


def note_settings(session: Session, project_id: int, extra_params: Mapping[str, Any]) -> None:
    """Store the extra params of a project and record that they changed; nothing where they are stored already.

    What we change ourselves is told twice: Label Studio then calls `/setup` with it. One round is to follow.
    """
    project = session.get_one(Project, project_id)
    if project.extra_params != dict(extra_params):
        project.extra_params = dict(extra_params)
        session.add(Event(project_id=project_id, action=SETTINGS_CHANGED, task_ids=[]))


def last_event(database: Database, project_id: int) -> int:
    """Id of the newest event of a project; 0 where there is none."""
    with database.read() as session:
        return session.scalar(select(func.max(Event.id)).where(Event.project_id == project_id)) or 0


def is_lull(database: Database, project_id: int) -> bool:
    """Whether nobody has labeled for a while."""
    labeled = select(func.max(Event.received_at)).where(
        Event.project_id == project_id, Event.action.in_(ENDS_WAITING)
    )
    with database.read() as session:
        latest = session.scalar(labeled)
    # A time to come was noted before the clock was put back.
    return latest is None or abs((now() - latest).total_seconds()) >= LULL


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


def _is_same(given: str, secret: str) -> bool:
    """Compared in the same time whatever is given."""
    return hmac.compare_digest(given.encode(), secret.encode())


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
