"""The queue: what Label Studio serves next, in order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from backend.deployment import Deployment
from backend.loop.publishing import waiting_entries
from backend.loop.rounds import served_round
from backend.store.tables import QueueEntry

PER_PAGE = 48


@dataclass(frozen=True)
class Queued:
    """A task of the queue. place: 1 for the next one."""

    place: int
    task_id: int
    reason: str
    prediction: str | None  # in words
    published: bool


def queue_page(deployment: Deployment, project_id: int, number: int) -> tuple[Sequence[Queued], int]:
    """A page of the tasks that nobody has labeled, and how many there are on all pages."""
    served = served_round(deployment, project_id)
    if served is None:
        return [], 0
    waiting = waiting_entries(served)
    first = (number - 1) * PER_PAGE
    with deployment.database.read() as session:
        total = session.scalar(select(func.count()).select_from(waiting.subquery())) or 0
        entries = session.scalars(waiting.order_by(QueueEntry.rank).offset(first).limit(PER_PAGE)).all()
    return [
        Queued(first + place, entry.task_id, entry.reason, in_words(entry.prediction), entry.published)
        for place, entry in enumerate(entries, 1)
    ], total


def in_words(prediction: Mapping[str, Any] | None) -> str | None:
    """A prediction as people say it: "7 (93 %)", "12 × RBC, WBC (41 %)"; None where there is none."""
    if prediction is None:
        return None
    counts = [name if count == 1 else f"{count} × {name}" for name, count in prediction["labels"].items()]
    return f"{', '.join(counts) or 'nothing found'} ({prediction['confidence']:.0%})"
