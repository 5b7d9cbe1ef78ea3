"""Scores worked out by hand from the formulas."""

from math import log

import numpy as np
import pytest

from strategies import Bald, Pool, VoteEntropy

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


def test_multi_label_scores_are_means_over_the_classes() -> None:
    members = np.array([[[0.9, 0.9, 0.1]], [[0.9, 0.1, 0.1]]])
    pool = Pool(1, committee=members, multi_label=True, classes=NAMES)
    own = -0.9 * log(0.9) - 0.1 * log(0.1)
    np.testing.assert_allclose(VoteEntropy().scores(pool), [log(2) / 3], atol=1e-7)
    np.testing.assert_allclose(Bald().scores(pool), [(log(2) - own) / 3], atol=1e-7)
    assert VoteEntropy().reason(pool, 0) == 'committee of 2 split 1:1 on "coat"'


@pytest.mark.parametrize("strategy", [VoteEntropy(), Bald()])
def test_one_member_is_no_committee(strategy: VoteEntropy | Bald) -> None:
    with pytest.raises(ValueError, match="train two or more"):
        strategy.rank(Pool(1, committee=np.ones((1, 1, 1))), 1, batch_size=1, seed=0)
