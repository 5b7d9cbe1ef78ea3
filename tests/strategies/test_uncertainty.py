"""Scores worked out by hand from the formulas."""

from math import log

import numpy as np
import pytest

from strategies import Entropy, LeastConfidence, Margin, Pool, Ratio
from strategies.scored import ScoredStrategy

CERTAIN, TWO, THREE = [1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.4, 0.3, 0.3]


def pool(*rows: list[float], multi_label: bool = False) -> Pool:
    return Pool(
        len(rows), committee=np.array([rows]), multi_label=multi_label, classes=("shirt", "coat", "bag")
    )


@pytest.mark.parametrize(
    ("strategy", "scores"),
    [
        (LeastConfidence(), [0, 0.5, 0.6]),
        (Margin(), [0, 1, 0.9]),
        (Ratio(), [0, 1, 0.75]),
        (Entropy(), [0, log(2), -0.4 * log(0.4) - 0.6 * log(0.3)]),
    ],
)
def test_single_label(strategy: ScoredStrategy, scores: list[float]) -> None:
    np.testing.assert_allclose(strategy.scores(pool(CERTAIN, TWO, THREE)), scores, atol=1e-7)
    ranking = strategy.rank(pool(CERTAIN, TWO, THREE), 3, batch_size=1, seed=0)
    assert ranking.indices.tolist() == np.argsort(-np.array(scores)).tolist()
    np.testing.assert_allclose(ranking.scores, sorted(scores, reverse=True), atol=1e-7)


def binary_entropy(p: float) -> float:
    return -p * log(p) - (1 - p) * log(1 - p)


@pytest.mark.parametrize(
    ("strategy", "scores"),
    [
        (LeastConfidence(), [0.1, 0.5]),  # the least certain class: 0.9, and 0.5
        (Margin(), [0.2, 1]),
        (Ratio(), [1 / 9, 1]),
        (Entropy(), [binary_entropy(0.1), (binary_entropy(0.5) + 2 * binary_entropy(0.1)) / 3]),
    ],
)
def test_multi_label(strategy: ScoredStrategy, scores: list[float]) -> None:
    questions = pool([0.9, 0.9, 0.1], [0.1, 0.5, 0.9], multi_label=True)
    np.testing.assert_allclose(strategy.scores(questions), scores, atol=1e-6)
    assert strategy.reason(questions, 1) == 'undecided on "coat" (50%)'


def test_multi_label_can_say_yes_to_nothing() -> None:
    assert Entropy().scores(pool([0, 0, 0], multi_label=True)) == 0


def test_one_class_leaves_no_doubt() -> None:
    one = Pool(2, committee=np.ones((1, 2, 1)))
    for strategy in (LeastConfidence(), Margin(), Ratio(), Entropy()):
        assert strategy.scores(one).tolist() == [0, 0]
        assert len(strategy.rank(one, 2, batch_size=1, seed=0)) == 2


def test_near_certain_images_stay_apart() -> None:
    nearly = np.array([[[1, 0]], [[1 - 2**-20, 2**-20]], [[1, 0]]])
    more = np.array([[[1, 0]], [[1 - 2**-20, 2**-20]], [[1 - 2**-20, 2**-20]]])
    both = Pool(2, committee=np.concatenate([nearly, more], axis=1))
    assert Margin().rank(both, 2, batch_size=1, seed=0).indices.tolist() == [1, 0]


def test_reasons_name_the_classes() -> None:
    images = pool(TWO, THREE)
    assert Margin().reason(images, 0) == 'between "shirt" (50%) and "coat" (50%)'
    assert Ratio().reason(images, 1) == 'between "shirt" (40%) and "coat" (30%)'
    assert LeastConfidence().reason(images, 1) == 'most likely "shirt", with only 40%'
    assert Entropy().reason(images, 1) == 'undecided: "shirt" (40%), "coat" (30%), "bag" (30%)'
    assert (
        Margin().reason(Pool(1, committee=np.array([[[0.7, 0.3]]])), 0)
        == "between class 0 (70%) and class 1 (30%)"
    )


def test_a_strategy_that_gives_no_number_is_told() -> None:
    class Broken(ScoredStrategy):
        name = "broken"
        needs = frozenset()

        def scores(self, pool: Pool) -> np.ndarray:
            return np.full(pool.size, np.nan)

        def reason(self, pool: Pool, index: int) -> str:
            return ""

    with pytest.raises(ValueError, match="broken gave scores that are not finite"):
        Broken().rank(Pool(2), 1, batch_size=1, seed=0)
