"""How often each class and each value of the metadata occurs, among the labels and in the queue."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import select

from backend.deployment import Deployment
from backend.labelstudio.control import Control
from backend.learners.tasks import class_shares, known_classes
from backend.loop.learning import LabeledSet
from backend.store.tables import QueueEntry, Round, Task

MOST_VALUES = 30  # of a metadata field; one with more is a name or a number rather than a kind of image


def labeled_classes(control: Control, labeled: Sequence[LabeledSet]) -> dict[str, float]:
    """For each class how many labeled images have it; votes of annotators who differ count in part."""
    targets = [target for part in labeled for target in part.targets]
    classes = known_classes(control, targets)
    counts = class_shares(targets, classes).sum(axis=0, dtype=float)
    return {name: round(float(count), 2) for name, count in zip(classes, counts, strict=True)}


def metadata_counts(groups: Iterable[Mapping[str, str]]) -> dict[str, dict[str, int]]:
    """For each metadata field how many images have each of its values, most frequent first."""
    counts: dict[str, Counter[str]] = {}
    for values in groups:
        for field, value in values.items():
            counts.setdefault(field, Counter())[value] += 1
    return {field: dict(found.most_common()) for field, found in counts.items() if len(found) <= MOST_VALUES}


def queued_metadata(deployment: Deployment, current: Round) -> dict[str, dict[str, int]]:
    """The same of the tasks in a round's queue."""
    with deployment.database.read() as session:
        found = session.scalars(
            select(Task.groups)
            .join(QueueEntry, (QueueEntry.task_id == Task.id) & (QueueEntry.round_id == current.id))
            .where(Task.project_id == current.project_id)
        )
        return metadata_counts(found)


def queued_classes(predictions: Iterable[Mapping[str, Any] | None]) -> dict[str, int]:
    """For each class how many images of the queue are predicted to have it."""
    return dict(Counter(name for one in predictions if one for name in one["labels"]).most_common())
