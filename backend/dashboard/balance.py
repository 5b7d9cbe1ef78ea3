"""How classes and metadata are spread, among the labels and in the queue, as bars."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backend.deployment import Deployment
from backend.loop.balance import queued_classes
from backend.loop.publishing import waiting_entries
from backend.store.tables import QueueEntry, Round

MOST_ROWS = 20


@dataclass(frozen=True)
class Row:
    """A class or a value: how many images have it, and what share that is of the most frequent one's."""

    name: str
    labeled: float
    queued: float
    labeled_share: float
    queued_share: float


@dataclass(frozen=True)
class Balance:
    """Of the classes of a control, or of a metadata field. left_out: rows that are not shown."""

    title: str
    rows: list[Row]
    left_out: int


def balances(deployment: Deployment, served: Round) -> list[Balance]:
    """Classes first, control by control, then the fields of the metadata."""
    controls: Mapping[str, Any] = served.facts.get("controls", {})
    queued = queued_classes(_predictions(deployment, served))
    found = [
        _balance(
            "Classes" if len(controls) == 1 else f"Classes of {name}",
            facts["classes"],
            {label: count for label, count in queued.items() if label in facts["classes"]},
        )
        for name, facts in controls.items()
        if facts.get("classes")
    ]
    metadata = served.facts.get("metadata", {})
    labeled, in_queue = metadata.get("labeled", {}), metadata.get("queue", {})
    for name in dict.fromkeys([*labeled, *in_queue]):
        found.append(_balance(name, labeled.get(name, {}), in_queue.get(name, {})))
    return found


def _balance(title: str, labeled: Mapping[str, float], queued: Mapping[str, float]) -> Balance:
    names = sorted(dict.fromkeys([*labeled, *queued]), key=lambda name: -labeled.get(name, 0))
    most_labeled, most_queued = max(labeled.values(), default=0) or 1, max(queued.values(), default=0) or 1
    rows = [
        Row(
            name,
            labeled.get(name, 0),
            queued.get(name, 0),
            labeled.get(name, 0) / most_labeled,
            queued.get(name, 0) / most_queued,
        )
        for name in names[:MOST_ROWS]
    ]
    return Balance(title, rows, max(0, len(names) - MOST_ROWS))


def _predictions(deployment: Deployment, served: Round) -> list[Mapping[str, Any] | None]:
    with deployment.database.read() as session:
        published = waiting_entries(served).where(QueueEntry.published)
        return list(session.scalars(published.with_only_columns(QueueEntry.prediction)))
