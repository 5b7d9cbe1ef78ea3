"""Scores worked out by hand from the formulas."""

from math import log, sqrt

import numpy as np
import pytest

from strategies import (
    Bald,
    ConsensusEntropy,
    ConsensusKL,
    MeanStandardDeviation,
    Pool,
    VariationRatio,
    VoteEntropy,
)
from strategies.scored import ScoredStrategy

NAMES = ("shirt", "coat", "bag")


def votes(*classes: int) -> np.ndarray:
    """(members, 1, 3) one-hot probabilities."""
    return np.eye(3)[list(classes)][:, None]


def test_vote_entropy() -> None:
    pool = Pool(
        3,
        committee=np.concatenate([votes(0, 0, 0, 1, 1), votes(2, 2, 2, 2, 2), votes(0, 1, 2, 2, 2)], axis=1),
    )
    split_3_2 = -0.6 * log(0.6) - 0.4 * log(0.4)
    split_3_1_1 = -0.6 * log(0.6) - 2 * 0.2 * log(0.2)
    np.testing.assert_allclose(VoteEntropy().scores(pool), [split_3_2, 0, split_3_1_1], atol=1e-12)
    assert VoteEntropy().rank(pool, 3, batch_size=1, seed=0).indices.tolist() == [2, 0, 1]


def test_variation_ratio() -> None:
    pool = Pool(
        3,
        committee=np.concatenate([votes(0, 0, 0, 1, 1), votes(2, 2, 2, 2, 2), votes(0, 1, 2, 2, 2)], axis=1),
        classes=NAMES,
    )
    np.testing.assert_allclose(VariationRatio().scores(pool), [0.4, 0, 0.4], atol=1e-12)
    assert VariationRatio().reason(pool, 0) == 'committee of 5 split 3:2 between "shirt" and "coat"'


def test_the_same_split_scores_the_same_for_all_classes() -> None:
    pool = Pool(2, committee=np.concatenate([votes(0, 0, 0, 1, 1, 2), votes(1, 2, 2, 0, 0, 0)], axis=1))
    first, second = VoteEntropy().scores(pool)
    assert first == second


def test_vote_entropy_reasons() -> None:
    pool = Pool(
        3,
        committee=np.concatenate([votes(0, 0, 0, 1, 1), votes(2, 2, 2, 2, 2), votes(0, 1, 2, 2, 2)], axis=1),
        classes=NAMES,
    )
    assert VoteEntropy().reason(pool, 0) == 'committee of 5 split 3:2 between "shirt" and "coat"'
    assert VoteEntropy().reason(pool, 1) == 'committee of 5 agrees on "bag"'
    assert VoteEntropy().reason(pool, 2) == 'committee of 5 split 3:1:1 between "bag", "shirt" and "coat"'


def test_bald_is_the_entropy_that_the_members_do_not_share() -> None:
    disagree = [[[1, 0, 0]], [[0, 1, 0]]]  # each sure of another class: log 2
    undecided = [[[0.5, 0.5, 0]], [[0.5, 0.5, 0]]]  # both unsure of the same: 0
    between = [[[0.75, 0.25, 0]], [[0.25, 0.75, 0]]]
    pool = Pool(3, committee=np.concatenate([disagree, undecided, between], axis=1), classes=NAMES)
    expected = [log(2), 0, log(2) + 0.75 * log(0.75) + 0.25 * log(0.25)]
    np.testing.assert_allclose(Bald().scores(pool), expected, atol=1e-12)
    assert Bald().reason(pool, 2) == 'committee of 2 puts "shirt" anywhere from 25% to 75%'


def test_consensus_entropy_is_that_of_the_mean() -> None:
    pool = Pool(1, committee=[[[0.75, 0.25, 0]], [[0.25, 0.25, 0.5]]], classes=NAMES)
    expected = -0.5 * log(0.5) - 2 * 0.25 * log(0.25)
    np.testing.assert_allclose(ConsensusEntropy().scores(pool), [expected], atol=1e-12)
    assert ConsensusEntropy().reason(pool, 0) == (
        'committee of 2 together undecided: "shirt" (50%), "coat" (25%), "bag" (25%)'
    )


def test_consensus_kl_is_the_mean_divergence_from_the_mean() -> None:
    pool = Pool(1, committee=[[[0.75, 0.25, 0]], [[0.25, 0.75, 0]]])
    divergence = 0.75 * log(0.75 / 0.5) + 0.25 * log(0.25 / 0.5)  # of either member
    np.testing.assert_allclose(ConsensusKL().scores(pool), [divergence], atol=1e-12)


def test_mean_standard_deviation() -> None:
    spread = [[[0.9, 0.1, 0]], [[0.5, 0.2, 0.3]], [[0.1, 0.3, 0.6]]]
    agreed = [[[0.2, 0.3, 0.5]]] * 3
    pool = Pool(2, committee=np.concatenate([spread, agreed], axis=1), classes=NAMES)
    deviations = [sqrt(2 * step**2 / 3) for step in (0.4, 0.1, 0.3)]
    np.testing.assert_allclose(MeanStandardDeviation().scores(pool), [sum(deviations) / 3, 0], atol=1e-7)
    assert MeanStandardDeviation().reason(pool, 0) == 'committee of 3 puts "shirt" anywhere from 10% to 90%'


def test_members_that_nearly_agree_keep_their_standard_deviation() -> None:
    low, high = np.float32(1 - 2**-22), np.float32(1 - 2**-23)
    pool = Pool(1, committee=[[[low, 1 - low]], [[high, 1 - high]]])
    np.testing.assert_allclose(MeanStandardDeviation().scores(pool), [2**-24], rtol=1e-9)


def test_multi_label_scores_are_means_over_the_classes() -> None:
    members = np.array([[[0.9, 0.9, 0.1]], [[0.9, 0.1, 0.1]]])
    pool = Pool(1, committee=members, multi_label=True, classes=NAMES)
    own = -0.9 * log(0.9) - 0.1 * log(0.1)
    np.testing.assert_allclose(VoteEntropy().scores(pool), [log(2) / 3], atol=1e-7)
    np.testing.assert_allclose(VariationRatio().scores(pool), [0.5 / 3], atol=1e-12)
    np.testing.assert_allclose(Bald().scores(pool), [(log(2) - own) / 3], atol=1e-7)
    np.testing.assert_allclose(ConsensusEntropy().scores(pool), [(log(2) + 2 * own) / 3], atol=1e-7)
    np.testing.assert_allclose(MeanStandardDeviation().scores(pool), [0.4 / 3], atol=1e-7)
    assert VoteEntropy().reason(pool, 0) == 'committee of 2 split 1:1 on "coat"'


@pytest.mark.parametrize(
    "strategy",
    [VoteEntropy(), VariationRatio(), ConsensusEntropy(), ConsensusKL(), MeanStandardDeviation(), Bald()],
)
def test_one_member_is_no_committee(strategy: ScoredStrategy) -> None:
    with pytest.raises(ValueError, match="train two or more"):
        strategy.rank(Pool(1, committee=np.ones((1, 1, 1))), 1, batch_size=1, seed=0)
