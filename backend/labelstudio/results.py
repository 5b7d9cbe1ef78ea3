"""Label Studio's annotations → what the learner is taught; the learner's answer → a prediction's result.

Format of both: https://labelstud.io/guide/task_format
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from backend.labelstudio.labeling_config import Control
from backend.targets import ChoiceTarget


def read_target(annotations: Sequence[Mapping[str, Any]], control: Control) -> ChoiceTarget | None:
    """What the annotators of one task chose, or None if no annotation tells.

    annotations: a task's annotations as Label Studio's API gives them. If some are ground truth, those alone
    count. Of several by one annotator the latest counts; one without a known annotator counts as an annotator
    of its own.

    An annotation tells nothing, and is left out, if it
    - was skipped, is a draft, is no object or has no list as its result;
    - has a result of this control that cannot be read: of another type or image, or its choices no list
      of text;
    - chose only classes that are no longer in the config (of others, such classes are dropped);
    - chose nothing, unless the control is multiple choice: there it says "none of them".
    """
    told = [
        (annotation, chosen)
        for annotation in _submitted(annotations)
        if (chosen := _chosen(annotation, control)) is not None
    ]
    told = [each for each in told if each[0].get("ground_truth") is True] or told
    latest: dict[object, frozenset[str]] = {}
    for annotation, chosen in sorted(told, key=lambda each: _age_key(each[0])):
        latest[_annotator(annotation)] = chosen
    answers = list(latest.values())
    if not answers:
        return None
    votes: dict[str, float] = {}
    for chosen in answers:
        weight = 1.0 if control.multiple else 1 / len(chosen)
        for name in sorted(chosen):
            votes[name] = votes.get(name, 0.0) + weight
    return ChoiceTarget(
        votes={name: vote / len(answers) for name, vote in votes.items()},
        annotators=len(answers),
        multiple=control.multiple,
    )


def is_ground_truth(annotations: Sequence[Mapping[str, Any]]) -> bool:
    """Whether someone marked one of a task's annotations as its true answer."""
    return any(annotation.get("ground_truth") is True for annotation in _submitted(annotations))


def choices_result(control: Control, classes: Sequence[str], score: float) -> list[dict[str, Any]]:
    """The `result` of a prediction that chooses these classes; empty for none.

    score: confidence in [0, 1]; Label Studio keeps it on the region.
    Raises ValueError for what Label Studio's prediction import would drop in silence.
    """
    if unknown := [name for name in classes if name not in control.classes]:
        raise ValueError(f"{control.name} has no class {unknown[0]!r}: read the labeling config again")
    if len(classes) > 1 and not control.multiple:
        raise ValueError(f"{control.name} is single choice: give one class, not {len(classes)}")
    score = round(float(score), 4)
    if not 0 <= score <= 1:
        raise ValueError(f"the score must be in [0, 1], not {score}")
    if not classes:
        return []
    return [
        {
            "from_name": control.name,
            "to_name": control.to_name,
            "type": "choices",
            "value": {"choices": list(classes)},
            "score": score,
        }
    ]


def _submitted(annotations: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for annotation in annotations:
        # only a draft can be postponed
        if (
            isinstance(annotation, Mapping)
            and not annotation.get("was_cancelled")
            and "was_postponed" not in annotation
        ):
            yield annotation


def _chosen(annotation: Mapping[str, Any], control: Control) -> frozenset[str] | None:
    """The classes that one annotation chose; None if it tells nothing (see read_target)."""
    result = annotation.get("result")
    if not isinstance(result, list):
        return None
    named: set[str] = set()
    for region in result:
        if not isinstance(region, Mapping) or region.get("from_name") != control.name:
            continue
        choices = _choices(region, control)
        if choices is None:
            return None
        named.update(choices)
    known = named.intersection(control.classes)
    if not known and (named or not control.multiple):
        return None
    return frozenset(known)


def _choices(region: Mapping[str, Any], control: Control) -> list[str] | None:
    value = region.get("value")
    if region.get("type") != "choices" or region.get("to_name") != control.to_name:
        return None
    choices = value.get("choices") if isinstance(value, Mapping) else None
    if not isinstance(choices, list) or not all(isinstance(name, str) for name in choices):
        return None
    return choices


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
