"""What the loop computes is what the strategies need."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from backend.labelstudio.control import Control
from backend.learners.classification import HeadCommittee
from backend.learners.detection import BoxAnswers
from backend.loop.pool import AVAILABLE, Labeled, check_available, make_pool
from strategies import Validation, strategy, strategy_names

CLASSES = tuple("0123456789")
WITH_PARAMETERS = {
    "power_acquisition": "{power_acquisition: margin}",
    "mixture": "{mixture: {strategies: [margin, random], shares: [1, 1]}}",
    "product": "{product: {objectives: [margin, k_center_greedy, {balance: {over: weather}}]}}",
    "without_near_duplicates": "{without_near_duplicates: badge}",
    "quotas": "{quotas: {strategy: margin, over: weather}}",
}
SPECS = [
    spec
    for name in strategy_names()
    if strategy(spec := WITH_PARAMETERS.get(name, name)).needs <= AVAILABLE["classification"]
]


QUESTION = Control("Choices", "classification", "digit", "image", "image", CLASSES, multiple=False)
DIGITS = load_digits()
X = (DIGITS.data / 16).astype(np.float32)
Y = np.eye(10, dtype=np.float32)[DIGITS.target]
WEATHER = np.array(["rain", "sun", "snow"])[np.arange(len(X)) % 3]
POOL, LABELED, VALIDATED = slice(0, 300), slice(300, 340), slice(340, 360)


@pytest.fixture(scope="module")
def committee() -> HeadCommittee:
    return HeadCommittee.fit(X[LABELED], Y[LABELED], CLASSES, seed=0)


@pytest.mark.parametrize("spec", SPECS)
def test_every_strategy_ranks_the_pool_that_the_loop_makes(committee: HeadCommittee, spec: str) -> None:
    chosen = strategy(spec)
    check_available(chosen)
    made = make_pool(
        chosen,
        question=QUESTION,
        classes=CLASSES,
        embeddings=X[POOL, :32],
        features=X[POOL],
        groups={"weather": WEATHER[POOL]},
        labeled=Labeled(X[LABELED, :32], Y[LABELED], {"weather": WEATHER[LABELED]}),
        answers=committee.answers(X[POOL]),
        labeled_answers=lambda: None,
        validation=lambda: Validation(X[VALIDATED], np.arange(20) % 2 == 0),
    )
    ranking = chosen.rank(made, 30, batch_size=10, seed=0)
    assert len(set(ranking.indices.tolist())) == 30
    assert all(ranking.reasons)


def test_a_strategy_for_parts_of_images_is_refused_with_the_reason() -> None:
    with pytest.raises(
        ValueError, match="regions needs units, which the learner for classification does not"
    ):
        check_available(strategy("{regions: {score: entropy}}"))
    check_available(strategy("{regions: {score: entropy}}"), "detection")


def test_objects_in_labeled_images_come_beside_those_of_the_pool() -> None:
    def answers(owners: list[int], images: int, value: float) -> BoxAnswers:
        boxes = len(owners)
        return BoxAnswers(
            CLASSES,
            np.full((images, 2), 100, np.int32),
            np.array(owners),
            np.tile(np.array([0, 0, 0.5, 0.5], np.float32), (boxes, 1)),
            np.full((2, boxes, 10), 0.5, np.float16),
            np.ones(boxes, np.float16),
            np.full((boxes, 4), value, np.float16),
        )

    question = Control("RectangleLabels", "detection", "box", "image", "image", CLASSES, multiple=True)
    chosen = strategy("object_diversity")
    check_available(chosen, "detection")
    made = make_pool(
        chosen,
        question=question,
        classes=CLASSES,
        embeddings=X[:3],
        features=X[:3],
        groups={},
        labeled=Labeled(X[LABELED], Y[LABELED], {}),
        answers=answers([0, 0, 2], 3, 1.0),
        labeled_answers=lambda: answers([0, 1], 40, 0.25),
        validation=lambda: Validation(X[VALIDATED], np.arange(20) % 2 == 0),
    )
    units = made.require_units().pool
    assert units.labeled_embeddings is not None and units.labeled_embeddings.tolist() == [[0.25] * 4] * 2
    assert len(chosen.rank(made, 3, batch_size=3, seed=0)) == 3
