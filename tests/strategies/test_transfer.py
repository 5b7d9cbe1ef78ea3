"""Models of mistakes, small enough to be worked out by hand."""

from math import exp

import numpy as np
import pytest

from strategies import ActiveTransferLearning, Atlas, LeastConfidence, Pool, Validation, strategy
from strategies.adaptive import choose_adaptively
from strategies.logistic import LogisticModel
from strategies.pool import Indices, Scores

from .domain_shift import accuracy_under_shift

STRATEGIES = [ActiveTransferLearning(), Atlas()]


def pool(features: list[list[float]], validated: list[list[float]], correct: list[bool]) -> Pool:
    rng = np.random.default_rng(0)
    return Pool(
        len(features),
        committee=rng.dirichlet(np.ones(3), size=(1, len(features))),
        features=np.array(features),
        validation=Validation(np.reshape(np.array(validated, dtype=np.float32), (-1, 2)), np.array(correct)),
    )


# Right at (-1, 0) and wrong at (1, 0), whose mean is 0 and mean squared norm 1. The weight w on the first feature
# maximises 2 log σ(w) − w² / (2 · 3), so w = 6 σ(−w) = 6 / (1 + e^w), which is 1.29254.
WEIGHT = 1.29254
ONE_OF_EACH = ([[-1, 0], [1, 0]], [True, False])


def test_the_weight_by_hand() -> None:
    assert pytest.approx(6 / (1 + exp(WEIGHT)), abs=1e-5) == WEIGHT


def test_scores_are_the_probability_that_the_learner_is_wrong() -> None:
    images = pool([[0, 0], [1, 0], [-2, 5]], *ONE_OF_EACH)
    expected = [1 / (1 + exp(-WEIGHT * x)) for x in (0, 1, -2)]
    np.testing.assert_allclose(ActiveTransferLearning().scores(images), expected, atol=1e-4)
    ranking = ActiveTransferLearning().rank(images, 2, batch_size=2, seed=0)
    assert ranking.indices.tolist() == [1, 0]
    assert ranking.reasons[0] == "the model of the learner's mistakes expects it to be wrong here (78%)"


def test_where_features_stand_and_how_large_they_are_does_not_matter() -> None:
    rows, wrong = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32), np.arange(40) % 3 == 0
    moved = 7 * rows + 3
    np.testing.assert_allclose(
        LogisticModel.fit(rows, wrong).probabilities(rows),
        LogisticModel.fit(moved, wrong).probabilities(moved),
        atol=1e-4,
    )


def test_atlas_begins_like_active_transfer_learning_and_takes_what_is_chosen_as_learned() -> None:
    images = pool([[1, 0], [0.5, 0]], *ONE_OF_EACH)
    ranking = Atlas().rank(images, 2, batch_size=2, seed=0)
    assert ranking.indices.tolist() == [0, 1]
    first, second = ActiveTransferLearning().scores(images)
    assert ranking.scores[0] == first
    # (1, 0) is now once wrong and once right: the image beside it is expected to be wrong less than before.
    assert ranking.scores[1] < second
    assert (
        ranking.reasons[1]
        == f"the model of the learner's mistakes expects it to be wrong here ({ranking.scores[1]:.0%})"
    )


def test_atlas_turns_to_other_mistakes() -> None:
    # At the origin the learner is right, far along the first axis always wrong, along the second six times of ten.
    rng = np.random.default_rng(0)
    places = np.array([[0, 0], [4, 0], [0, 4]])
    correct = [True] * 10 + [False] * 10 + [True] * 4 + [False] * 6
    validated = np.repeat(places, 10, axis=0)
    features = np.repeat(places, 20, axis=0) + rng.normal(scale=0.1, size=(60, 2))
    images = pool(features.tolist(), validated.tolist(), correct)
    plain = ActiveTransferLearning().rank(images, 20, batch_size=20, seed=0).indices // 20
    adaptive = Atlas().rank(images, 20, batch_size=20, seed=0).indices // 20
    assert plain.tolist() == [1] * 20
    assert adaptive[:2].tolist() == [1, 1]
    assert 4 <= (adaptive == 2).sum() <= 16
    assert 0 not in adaptive


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s.name)
@pytest.mark.parametrize(
    "correct", [[], [True] * 3, [False] * 3], ids=["no validation", "all right", "all wrong"]
)
def test_without_both_right_and_wrong_the_learners_own_doubt_decides(
    strategy: ActiveTransferLearning | Atlas, correct: list[bool]
) -> None:
    images = pool([[0, 0], [1, 0], [2, 0]], [[0.0, i] for i in range(len(correct))], correct)
    ranking = strategy.rank(images, 3, batch_size=1, seed=0)
    expected = LeastConfidence().rank(images, 3, batch_size=1, seed=0)
    assert ranking.indices.tolist() == expected.indices.tolist()
    assert ranking.scores.tolist() == expected.scores.tolist()
    assert ranking.reasons == expected.reasons


def test_a_long_ranking_takes_few_refits() -> None:
    given: list[int] = []

    def scores(picks: Indices) -> Scores:
        given.append(len(picks))
        return np.arange(3000.0)

    picks, _ = choose_adaptively(Pool(3000), 2000, 20, scores)
    assert picks.tolist() == list(range(2999, 999, -1))
    assert given[:5] == [0, 2, 4, 6, 8]  # a tenth of the batch each
    assert len(given) < 40


@pytest.mark.parametrize("name", ["active_transfer_learning", "atlas"])
def test_finds_what_the_learner_does_not_know_where_it_is_sure_of_it(name: str) -> None:
    random = accuracy_under_shift(strategy("random"))
    assert accuracy_under_shift(strategy(name)) > random + 0.1
