import numpy as np
import pytest

from strategies import Margin, Pool, Random, Ranking, WithoutNearDuplicates, strategy


def rank(
    line: list[float], labeled: list[float], certainty: list[float], size: int, distance: float | None
) -> Ranking:
    """Of images on a line, by least certainty: `certainty` is the probability of the first of two classes."""
    p = np.array(certainty)
    pool = Pool(
        len(line),
        committee=np.stack([p, 1 - p], axis=1)[None],
        embeddings=np.array(line)[:, None],
        labeled_embeddings=np.array(labeled, dtype=float).reshape(-1, 1),
    )
    return WithoutNearDuplicates(Margin(), distance).rank(pool, size, batch_size=2, seed=0)


def test_near_duplicates_come_last() -> None:
    """Of 0 and 0.5 the less certain one stays, and 5 is like the labeled 5.2."""
    ranking = rank([0, 0.5, 5, 9], [5.2], [0.6, 0.55, 0.5, 0.9], 4, distance=1)
    assert ranking.indices.tolist() == [1, 3, 2, 0]
    assert ranking.scores.tolist() == pytest.approx([0.9, 0.2, 1, 0.8])
    assert ranking.reasons[0] == "between class 0 (55%) and class 1 (45%)"


def test_more_is_asked_for_where_too_much_repeats() -> None:
    line = [0.0] * 30 + [1.0, 2.0]
    ranking = rank(line, [], [0.5] * 30 + [0.9, 0.95], 3, distance=0.1)
    assert ranking.indices[0] < 30
    assert ranking.indices[1:].tolist() == [30, 31]


def test_a_distance_of_0_is_that_of_the_very_same() -> None:
    ranking = rank([3, 3, 4], [], [0.5, 0.6, 0.7], 3, distance=0)
    assert ranking.indices.tolist() == [0, 2, 1]


def test_the_distance_follows_from_the_pool() -> None:
    """The median distance is 10: two images are near-duplicates within 2.5 of each other."""
    line = [0, 0.9, 10, 13, 20.0]
    ranking = rank(line, [], [0.5, 0.51, 0.52, 0.53, 0.54], 5, distance=None)
    assert ranking.indices.tolist() == [0, 2, 3, 4, 1]


@pytest.mark.parametrize("size", [1, 40, 300])
def test_as_one_by_one(size: int) -> None:
    rng = np.random.default_rng(0)
    points, labeled = (
        rng.normal(size=(1000, 2)).astype(np.float32),
        rng.normal(size=(10, 2)).astype(np.float32),
    )
    pool = Pool(1000, embeddings=points, labeled_embeddings=labeled)
    order = Random().rank(pool, 1000, batch_size=1, seed=3).indices
    kept: list[int] = []
    for i in order:
        others = np.concatenate([labeled, points[kept]])
        if np.linalg.norm(others - points[i], axis=1).min() > 0.1:
            kept.append(int(i))
    expected = kept + [int(i) for i in order if i not in kept]
    ranking = WithoutNearDuplicates(Random(), 0.1).rank(pool, size, batch_size=1, seed=3)
    assert ranking.indices.tolist() == expected[:size]


def test_from_a_spec() -> None:
    made = strategy("{without_near_duplicates: {strategy: margin, distance: 0.1}}")
    assert made == WithoutNearDuplicates(Margin(), 0.1)


def test_a_distance_that_is_none() -> None:
    with pytest.raises(ValueError, match="distance is -1"):
        WithoutNearDuplicates(Margin(), -1)
