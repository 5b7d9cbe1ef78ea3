"""Label Studio's annotations → what the learner is taught; the learner's answer → a prediction's result.

Format of both: https://labelstud.io/guide/task_format
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from backend.labelstudio import choices, identities, masks, rectangles
from backend.labelstudio.control import Control
from backend.labelstudio.taxonomy import path_class
from backend.targets import Prediction, Target


class Family(Protocol):
    """How the results of some control tags are read and written: a module for each."""

    def read(self, result: Sequence[Any], control: Control) -> Any:
        """The answer of one annotation's `result`; None if it tells nothing."""

    def combine(self, answers: Sequence[Any], control: Control) -> Any:
        """The target, from the answers of at least one annotator."""

    def write(self, control: Control, prediction: Prediction) -> list[dict[str, Any]]:
        """The `result` of a prediction. Raises ValueError for what Label Studio would not take."""


def read_target(annotations: Sequence[Mapping[str, Any]], control: Control) -> Target | None:
    """What the annotators of one task said, or None if no annotation tells.

    annotations: a task's annotations as Label Studio's API gives them. If some are ground truth, those alone
    count. Of several by one annotator the latest counts; one without a known annotator counts as an annotator
    of its own.

    An annotation that was skipped, is a draft, is no object or has no list as its result tells nothing. What else
    tells nothing is said where the results of the control's tag are read.
    """
    family = _family(control)
    told = [
        (annotation, answer)
        for annotation in _submitted(annotations)
        if isinstance(result := annotation.get("result"), list)
        and (answer := family.read(result, control)) is not None
    ]
    told = [each for each in told if each[0].get("ground_truth") is True] or told
    latest: dict[object, Any] = {}
    for annotation, answer in sorted(told, key=lambda each: _age_key(each[0])):
        latest[_annotator(annotation)] = answer
    target: Target | None = family.combine(list(latest.values()), control) if latest else None
    return target


def is_ground_truth(annotations: Sequence[Mapping[str, Any]]) -> bool:
    """Whether someone marked one of a task's annotations as its true answer."""
    return any(annotation.get("ground_truth") is True for annotation in _submitted(annotations))


def write_result(control: Control, prediction: Prediction) -> list[dict[str, Any]]:
    """The `result` of a prediction that says the same; empty where it says nothing.

    Raises ValueError for what Label Studio's prediction import would drop in silence.
    """
    return _family(control).write(control, prediction)


def labels_in(result: Sequence[Mapping[str, Any]]) -> list[str]:
    """The classes and names in a prediction's result, region by region; of a taxonomy the path."""
    found = []
    for region in result:
        values = region["value"].get("text" if region["type"] == "textarea" else region["type"], [])
        found += [path_class(value) if isinstance(value, list) else str(value) for value in values]
    return found


def _family(control: Control) -> Family:
    if control.boxes is not None:
        return identities
    match control.task:
        case "detection":
            return rectangles
        case "segmentation":
            return masks
        case _:
            return choices


def _submitted(annotations: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for annotation in annotations:
        # only a draft can be postponed
        if (
            isinstance(annotation, Mapping)
            and not annotation.get("was_cancelled")
            and "was_postponed" not in annotation
        ):
            yield annotation


def _annotator(annotation: Mapping[str, Any]) -> object:
    """Label Studio gives the annotator's id, or, expanded, an object with it."""
    annotator = annotation.get("completed_by")
    if isinstance(annotator, Mapping):
        annotator = annotator.get("id")
    return annotator if isinstance(annotator, int) else object()


def _age_key(annotation: Mapping[str, Any]) -> tuple[datetime, int]:
    """Sorts the oldest first; an annotation without a date is older than any with one."""
    try:
        updated = datetime.fromisoformat(annotation.get("updated_at") or annotation["created_at"])
    except (KeyError, TypeError, ValueError):
        updated = datetime.min
    if updated.tzinfo is None:
        updated = updated.replace(tzinfo=UTC)
    number = annotation.get("id")
    return updated, number if isinstance(number, int) else 0
