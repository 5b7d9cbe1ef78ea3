"""The tables of what must survive a restart."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, ForeignKey, Index, Integer, Text, TypeDecorator, false
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

LARGEST_ID = 2**31 - 1  # that a column of integers takes, and Label Studio gives


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC; SQLite forgets the time zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        return (value if value.tzinfo else value.replace(tzinfo=UTC)) if value else None


def now() -> datetime:
    """The current moment in UTC."""
    return datetime.now(UTC)


class Base(DeclarativeBase):
    """Metadata of all tables."""

    type_annotation_map = {  # noqa: RUF012
        str: Text,
        datetime: UtcDateTime,
        dict[str, Any]: JSON(none_as_null=True),
        list[int]: JSON(none_as_null=True),
    }


class ProjectState(StrEnum):
    """Whether the loop of a project runs."""

    CONNECTING = "connecting"  # seen through /setup or `connect`; not taken over yet
    ACTIVE = "active"
    DISCONNECTING = "disconnecting"
    DISCONNECTED = "disconnected"
    GONE = "gone"  # deleted in Label Studio, or no longer visible to our key


class Project(Base):
    """A Label Studio project that is, or was, connected."""

    __tablename__ = "projects"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    title: Mapped[str] = mapped_column(default="")
    created: Mapped[int] = mapped_column(
        BigInteger, default=0
    )  # Unix time; tells a new server's project 3 apart
    state: Mapped[str] = mapped_column(default=ProjectState.CONNECTING)
    problem: Mapped[str | None]  # a sentence: why the loop cannot run
    label_config: Mapped[str] = mapped_column(default="")
    extra_params: Mapped[dict[str, Any]] = mapped_column(default=dict)
    backend_url: Mapped[str] = mapped_column(default="")  # as Label Studio calls us
    webhook_secret: Mapped[str] = mapped_column(default="")
    restore: Mapped[dict[str, Any]] = mapped_column(default=dict)  # what `disconnect` puts back
    published_round: Mapped[int | None]  # id of the round whose queue is being served
    synced_until: Mapped[datetime | None]  # Label Studio's clock: tasks changed before are in the store
    synced_event: Mapped[int] = mapped_column(default=0)  # id of the last event that a sync has covered
    synced_tasks: Mapped[int] = mapped_column(default=0)  # Label Studio's own count at the last sync
    synced_annotated: Mapped[int] = mapped_column(default=0)  # tasks with annotations, likewise
    annotations_per_task: Mapped[int] = mapped_column(default=1)  # likewise
    audit_share: Mapped[float] = mapped_column(default=0)  # by which the tasks' `audit` was drawn
    paused: Mapped[bool] = mapped_column(default=False, server_default=false())  # no round starts by itself
    preview: Mapped[dict[str, Any] | None]  # the queue that other settings would give, see loop/preview


class Task(Base):
    """A task of a connected project, as of the last sync."""

    __tablename__ = "tasks"

    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    source: Mapped[str]  # the image, as the task's data names it
    labeled: Mapped[bool] = mapped_column(default=False)  # Label Studio asks nobody for it any more
    target: Mapped[dict[str, Any] | None]  # what the annotators said, by control
    agreement: Mapped[float] = mapped_column(default=1, server_default="1")  # the least of any control
    ground_truth: Mapped[bool] = mapped_column(default=False)
    skips: Mapped[int] = mapped_column(default=0)  # annotators who skipped it
    touched: Mapped[bool] = mapped_column(
        default=False
    )  # an event since the last sync says: no longer waiting
    audit: Mapped[bool] = mapped_column(default=False)  # belongs to the random sample that measures the model
    groups: Mapped[dict[str, Any]] = mapped_column(
        default=dict, server_default="{}"
    )  # metadata: weather, hour
    embedded: Mapped[str | None]  # name of the embedder whose embedding is stored
    broken: Mapped[str | None]  # a sentence: why the image cannot be used

    __table_args__ = (Index("tasks_by_embedding", "project_id", "embedded"),)


class Event(Base):
    """Something that Label Studio told us; a hint that a sync is worth while."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    project_id: Mapped[int] = mapped_column(Integer)
    action: Mapped[str]
    task_ids: Mapped[list[int]] = mapped_column(default=list)
    received_at: Mapped[datetime] = mapped_column(default=now)

    __table_args__ = (Index("events_by_project", "project_id", "id"),)


class RoundState(StrEnum):
    """Where a round stands."""

    RUNNING = "running"  # or left behind by a killed worker: its lease tells
    WAITING = "waiting"  # until not_before, then it goes on at its step
    DONE = "done"
    FAILED = "failed"


class Round(Base):
    """One pass: sync, embed, fit, evaluate, score, select, publish, decide, clean."""

    __tablename__ = "rounds"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), index=True)
    number: Mapped[int]  # 0, 1, 2 … within the project
    version: Mapped[str]  # the model_version of its predictions
    reason: Mapped[str]  # why it was started, in words
    state: Mapped[str] = mapped_column(default=RoundState.RUNNING)
    step: Mapped[str]  # the step to do next
    seconds: Mapped[dict[str, Any]] = mapped_column(default=dict)  # by step
    label_config: Mapped[str] = mapped_column(default="")  # that it was trained for
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict)  # labels, classes, accuracy, …
    trained: Mapped[bool] = mapped_column(default=False)  # False: cold start
    log: Mapped[str] = mapped_column(default="", server_default="")  # its lines of the worker's log
    error: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime | None]
    started_at: Mapped[datetime] = mapped_column(default=now)
    published_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class QueueEntry(Base):
    """One place in a round's ranking; the first ones are published, the others are the reserve."""

    __tablename__ = "queue"

    round_id: Mapped[int] = mapped_column(ForeignKey("rounds.id", ondelete="CASCADE"), primary_key=True)
    rank: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    task_id: Mapped[int]
    score: Mapped[float | None]  # acquisition score; None for an audit task
    reason: Mapped[str]
    published: Mapped[bool] = mapped_column(default=False)
    prediction: Mapped[dict[str, Any] | None]  # the answers of the learners in words, once published

    __table_args__ = (Index("queue_by_task", "round_id", "task_id"),)


class Lease(Base):
    """The right to do something alone, for a short while; its holder renews it."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    until: Mapped[datetime]
