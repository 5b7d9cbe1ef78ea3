"""From what the loop has computed to the pool that a strategy sees: what the strategy needs, and no more."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from backend.learners.evaluation import answered_right
from backend.learners.learner import Answers, EmbeddingLearner, Learner
from backend.learners.tasks import Question, class_shares, has_several_classes
from backend.targets import Target, VisionTask
from strategies import MissingNeed, Need, Pool, Strategy, Units, Validation

# What follows from a learner's answers, so that it cannot be had before there is one.
FROM_A_LEARNER = frozenset(
    {
        Need.PROBABILITIES,
        Need.COMMITTEE,
        Need.VALIDATION,
        Need.UNITS,
        Need.LABELED_UNITS,
        Need.LOCALISATION,
        Need.VERIFICATION,
    }
)
# What can be computed whatever the task: from stored embeddings, the answers of annotators and metadata.
FROM_THE_STORE = frozenset({Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS, Need.LABELED_TARGETS, Need.GROUPS})
_OF_PRESENCE = FROM_THE_STORE | {Need.PROBABILITIES, Need.COMMITTEE, Need.UNITS}
_OF_HEADS = FROM_THE_STORE | {Need.PROBABILITIES, Need.COMMITTEE, Need.FEATURES, Need.VALIDATION}
AVAILABLE: Mapping[VisionTask, frozenset[Need]] = {
    "classification": _OF_HEADS,
    "detection": _OF_PRESENCE | {Need.LABELED_UNITS},
    "segmentation": _OF_PRESENCE,
    "face": _OF_HEADS | {Need.VERIFICATION},
}


def check_available(
    strategy: Strategy, task: VisionTask = "classification", *, in_boxes: bool = False
) -> None:
    """Raises MissingNeed for a strategy that needs what the learner of a task, see `tasks.Question`, does not give."""
    if lacking := sorted(strategy.needs - (_OF_PRESENCE if in_boxes else AVAILABLE[task])):
        raise MissingNeed(
            f"The strategy {strategy.name} needs {', '.join(lacking)}, which the learner for {task} does not "
            "give; choose another strategy."
        )


@dataclass(frozen=True)
class Labeled:
    """What is known of the labeled set: a row, or a value, for each image.

    embeddings: (labeled, dimensions), the strategy's. targets: (labeled, classes), see `tasks.class_shares`.
    groups: for each metadata field its values.
    """

    embeddings: NDArray[np.float32]
    targets: NDArray[np.float32]
    groups: Mapping[str, NDArray[np.str_]]


def make_pool(
    strategy: Strategy,
    *,
    question: Question,
    classes: tuple[str, ...],
    embeddings: NDArray[np.float32],
    features: NDArray[np.float32],
    groups: Mapping[str, NDArray[np.str_]],
    labeled: Labeled,
    answers: Answers | None,
    labeled_answers: Callable[[], Answers | None],
    validation: Callable[[], Validation],
) -> Pool:
    """The pool for a strategy.

    Args:
        strategy: what is to be given follows from its needs.
        question: what annotators are asked.
        classes: names of the classes, in the order of the columns of targets and answers.
        embeddings: (pool, dimensions) of the images to rank, for the strategy.
        features: (pool, features) of the same, in the learner's own embedding.
        groups: for each metadata field its value for each image to rank, (pool,).
        labeled: all labeled images, the validation set's among them.
        answers: of the learner about the images to rank; None before there is one, and then a strategy that needs
            them will refuse the pool.
        labeled_answers: computes the learner's answers about labeled images.
        validation: computes where the learner was right on labeled images that it was not trained on.
    """
    needs, given = strategy.needs, dict[str, Any]()
    if Need.EMBEDDINGS in needs:
        given["embeddings"] = embeddings
    if Need.LABELED_EMBEDDINGS in needs:
        given["labeled_embeddings"] = labeled.embeddings
    if Need.FEATURES in needs:
        given["features"] = features
    if Need.LABELED_TARGETS in needs:
        given["labeled_targets"] = labeled.targets
    if Need.GROUPS in needs:
        given["groups"], given["labeled_groups"] = groups, labeled.groups
    if answers is not None:
        given |= answers.pool_fields()
        if not needs & {Need.PROBABILITIES, Need.COMMITTEE}:
            del given["committee"]
        if Need.FEATURES not in needs:
            given.pop("features", None)
        if Need.LABELED_UNITS in needs and "units" in given:
            given["units"] = _beside(given["units"], labeled_answers())
        if Need.VALIDATION in needs:
            given["validation"] = validation()
    several = has_several_classes(question)
    return Pool(size=len(embeddings), multi_label=several, classes=classes, **given)


def _beside(units: Units, labeled: Answers | None) -> Units:
    """The units with the embeddings of those found in labeled images."""
    if labeled is None or not units.pool.size:
        return units
    found: Units = labeled.pool_fields()["units"]
    return Units(replace(units.pool, labeled_embeddings=found.pool.embeddings), units.owners)


def validated(
    learner: Learner | None, question: Question, embeddings: NDArray[np.float32], targets: Sequence[Target]
) -> Validation:
    """Where a learner that is given embeddings was right and where wrong."""
    answers = cast("EmbeddingLearner", learner).answers(embeddings)
    fields = answers.pool_fields()
    shares = class_shares(targets, cast("Learner", learner).classes)
    right = answered_right(fields["committee"].mean(axis=0), shares, question.multiple)
    return Validation(fields.get("features", embeddings), right)
