"""From what the loop has computed to the pool that a strategy sees: what the strategy needs, and no more."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.learners.committee import Committee
from backend.learners.evaluation import answered_right
from strategies import MissingNeed, Need, Pool, Strategy, Validation

# What follows from a learner's answers, so that it cannot be had before there is one.
FROM_A_LEARNER = frozenset({Need.PROBABILITIES, Need.COMMITTEE, Need.VALIDATION})
# What can be computed where heads are trained on stored embeddings.
AVAILABLE = FROM_A_LEARNER | {
    Need.EMBEDDINGS,
    Need.LABELED_EMBEDDINGS,
    Need.FEATURES,
    Need.LABELED_TARGETS,
    Need.GROUPS,
}


def check_available(strategy: Strategy) -> None:
    """Raises MissingNeed for a strategy that needs what a classifier on embeddings does not give."""
    if lacking := sorted(strategy.needs - AVAILABLE):
        raise MissingNeed(
            f"The strategy {strategy.name} needs {', '.join(lacking)}, which a classifier of whole images does not "
            "give; choose another strategy."
        )


def make_pool(
    needs: frozenset[Need],
    *,
    committee: Committee | None,
    classes: tuple[str, ...],
    multi_label: bool,
    embeddings: NDArray[np.float32],
    features: NDArray[np.float32],
    labeled_embeddings: NDArray[np.float32],
    labeled_targets: NDArray[np.float32],
    validation_features: NDArray[np.float32],
    validation_targets: NDArray[np.float32],
    groups: Mapping[str, NDArray[np.str_]],
    labeled_groups: Mapping[str, NDArray[np.str_]],
    probabilities: NDArray[np.float32] | None = None,
) -> Pool:
    """The pool for a strategy with these `needs`.

    Args:
        needs: the strategy's.
        committee: the learner; None before there is one, and then a strategy that needs it will refuse the pool.
        classes: names of the classes, in the order of the columns of targets.
        multi_label: whether an image may have several of them.
        embeddings: (pool, dimensions) of the images to rank.
        features: (pool, features) of the same, in the learner's own embedding.
        labeled_embeddings: (labeled, dimensions) of all labeled images, the validation set's among them.
        labeled_targets: (labeled, classes) vote shares of the same.
        validation_features: (validated, features) of the labeled images that the committee was not trained on.
        validation_targets: (validated, classes) vote shares of the same.
        groups: for each metadata field its value for each image to rank, (pool,).
        labeled_groups: the same fields for all labeled images, (labeled,).
        probabilities: (members, pool, classes) the committee's, where the caller has computed them already.
    """
    given: dict[str, Any] = {}
    if Need.EMBEDDINGS in needs:
        given["embeddings"] = embeddings
    if Need.LABELED_EMBEDDINGS in needs:
        given["labeled_embeddings"] = labeled_embeddings
    if Need.FEATURES in needs:
        given["features"] = features
    if Need.LABELED_TARGETS in needs:
        given["labeled_targets"] = labeled_targets
    if Need.GROUPS in needs:
        given["groups"], given["labeled_groups"] = groups, labeled_groups
    if committee is not None:
        if {Need.PROBABILITIES, Need.COMMITTEE} & needs:
            given["committee"] = committee.probabilities(features) if probabilities is None else probabilities
        if Need.VALIDATION in needs:
            answers = committee.probabilities(validation_features).mean(axis=0)
            right = answered_right(answers, validation_targets, multi_label)
            given["validation"] = Validation(validation_features, right)
    return Pool(size=len(embeddings), multi_label=multi_label, classes=classes, **given)
