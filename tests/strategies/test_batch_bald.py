"""Batches against the mutual information that going through all their labels finds."""

from itertools import product
from math import log

import numpy as np
import pytest

from strategies import Bald, BatchBald, Pool
from strategies import batch_bald as module

NAMES = ("shirt", "coat", "bag")


def entropy(p: np.ndarray) -> float:
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())


def told(committee: np.ndarray, batch: list[int]) -> float:
    """Mutual information of the labels of a batch and the member that is right, from all that they may be."""
    members, _, classes = committee.shape
    joint = np.array(
        [
            np.prod([committee[:, i, y] for i, y in zip(batch, labels, strict=True)], axis=0)
            for labels in product(range(classes), repeat=len(batch))
        ]
    )
    return entropy(joint.mean(axis=1)) - np.mean([entropy(joint[:, k]) for k in range(members)])


def greedy(committee: np.ndarray, size: int) -> list[int]:
    batch: list[int] = []
    for _ in range(size):
        left = [i for i in range(committee.shape[1]) if i not in batch]
        batch.append(max(left, key=lambda i: told(committee, [*batch, i])))
    return batch


def soft(members: int, size: int, classes: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(size, classes))
    odds = np.exp(common + 0.8 * rng.normal(size=(members, size, classes)))
    return odds / odds.sum(axis=2, keepdims=True)


def test_a_repeated_image_tells_nothing_more() -> None:
    halves, repeated = [[1, 0], [1, 0], [0, 1], [0, 1]], [[1, 0], [1, 0], [0, 1], [0, 1]]
    across = [[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.1, 0.9]]
    pool = Pool(3, committee=np.stack([halves, across, repeated], axis=1), classes=("shirt", "coat"))
    across_alone = log(2) + 0.9 * log(0.9) + 0.1 * log(0.1)
    np.testing.assert_allclose(Bald().scores(pool), [log(2), across_alone, log(2)], atol=1e-7)
    ranking = BatchBald().rank(pool, 2, batch_size=2, seed=0)
    assert ranking.indices[0] in (0, 2) and ranking.indices[1] == 1
    np.testing.assert_allclose(ranking.scores, [log(2), across_alone], atol=1e-7)


def test_a_batch_is_the_greedy_one_and_its_scores_add_up_to_what_it_tells() -> None:
    committee = soft(4, 12, 3)
    pool = Pool(12, committee=committee, classes=NAMES)
    ranking = BatchBald().rank(pool, 5, batch_size=5, seed=0)
    batch = greedy(committee, 5)
    assert ranking.indices.tolist() == batch
    np.testing.assert_allclose(
        np.cumsum(ranking.scores), [told(committee, batch[: k + 1]) for k in range(5)], atol=1e-6
    )
    alone = Bald().scores(pool)
    assert batch != np.argsort(-alone)[:5].tolist()
    settled = 1 - ranking.scores[4] / alone[batch[4]]
    assert ranking.reasons[0] == Bald().reason(pool, batch[0])
    assert ranking.reasons[4] == (
        f"{Bald().reason(pool, batch[4])}; the labels before it in the batch will settle {settled:.0%} of that"
    )


def test_a_sample_of_configurations_finds_batches_that_tell_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    committee = soft(6, 40, 3)
    pool = Pool(40, committee=committee)
    exact = BatchBald().rank(pool, 7, batch_size=7, seed=0)
    monkeypatch.setattr(module, "_CONFIGURATIONS", 3 * 81)  # of 729 for six images
    monkeypatch.setattr(module, "_FEWEST", 1)
    sampled = BatchBald().rank(pool, 7, batch_size=7, seed=0)
    assert sampled.indices[:5].tolist() == exact.indices[:5].tolist()
    best = told(committee, exact.indices.tolist())
    assert told(committee, sampled.indices.tolist()) == pytest.approx(best, rel=0.01)
    assert sampled.scores.sum() == pytest.approx(best, rel=0.05)
    assert sampled.scores.sum() != exact.scores.sum()


def test_each_batch_is_chosen_anew_among_those_left() -> None:
    committee = soft(4, 12, 3)
    ranking = BatchBald().rank(Pool(12, committee=committee), 6, batch_size=3, seed=0)
    left = np.setdiff1d(np.arange(12), ranking.indices[:3])
    assert ranking.indices[:3].tolist() == greedy(committee, 3)
    assert ranking.indices[3:].tolist() == left[greedy(committee[:, left], 3)].tolist()


def test_a_committee_that_has_told_all_starts_anew() -> None:
    committee = np.repeat([[[1.0, 0]], [[0, 1.0]]], 5, axis=1)  # any one label tells who is right
    ranking = BatchBald().rank(Pool(5, committee=committee), 5, batch_size=5, seed=0)
    np.testing.assert_allclose(ranking.scores, log(2))


def test_members_that_agree_on_all() -> None:
    ranking = BatchBald().rank(Pool(3, committee=np.full((2, 3, 2), 0.5)), 3, batch_size=2, seed=0)
    assert sorted(ranking.indices.tolist()) == [0, 1, 2]
    assert ranking.scores.tolist() == [0, 0, 0]


def test_candidates_are_the_highest_by_bald(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(30, committee=soft(4, 30, 3))
    monkeypatch.setattr(module, "_CANDIDATES", 3)
    ranking = BatchBald().rank(pool, 3, batch_size=3, seed=0)
    assert set(ranking.indices) == set(np.argsort(-Bald().scores(pool))[:3])


def test_several_labels_are_questions_of_their_own() -> None:
    p = np.random.default_rng(0).random(size=(4, 10, 2)).astype(np.float32)
    ranking = BatchBald().rank(Pool(10, committee=p, multi_label=True), 4, batch_size=4, seed=0)
    questions = [np.stack([p[:, :, c], 1 - p[:, :, c]], axis=2).astype(float) for c in range(2)]
    batch = ranking.indices.tolist()
    np.testing.assert_allclose(
        np.cumsum(ranking.scores),
        [np.mean([told(q, batch[: k + 1]) for q in questions]) for k in range(4)],
        atol=1e-6,
    )
    for k in range(4):
        left = [i for i in range(10) if i not in batch[:k]]
        assert batch[k] == max(left, key=lambda i: sum(told(q, [*batch[:k], i]) for q in questions))


def test_one_member_is_no_committee() -> None:
    with pytest.raises(ValueError, match="train two or more"):
        BatchBald().rank(Pool(1, committee=np.ones((1, 1, 1))), 1, batch_size=1, seed=0)
