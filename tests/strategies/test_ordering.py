import numpy as np

from strategies.ordering import fingerprints, highest
from strategies.pool import Pool


def distinct(n: int) -> Pool:
    return Pool(n, embeddings=np.random.default_rng(0).normal(size=(n, 3)))


def test_highest_scores_first() -> None:
    assert highest(distinct(4), np.array([0.1, 0.9, 0.5, 0.7]), 3).tolist() == [1, 3, 2]


def test_size_beyond_the_pool() -> None:
    assert highest(distinct(2), np.array([1.0, 2.0]), 5).tolist() == [1, 0]
    assert highest(distinct(0), np.empty(0), 5).tolist() == []


def test_a_tie_for_the_last_place_goes_by_content() -> None:
    pool = distinct(20)
    scores = np.zeros(20)
    scores[7] = 1
    first = highest(pool, scores, 4)
    shuffle = np.random.default_rng(1).permutation(20)
    assert first[0] == 7
    assert shuffle[highest(pool.take(shuffle), scores[shuffle], 4)].tolist() == first.tolist()


def test_images_alike_in_everything_go_by_index() -> None:
    assert highest(Pool(3, embeddings=np.ones((3, 2))), np.zeros(3), 3).tolist() == [0, 1, 2]


def test_fingerprints_tell_content_apart() -> None:
    rows = np.array([[0.0, 1], [1, 0], [0.0, 1], [-0.0, 1]])
    a, b, c, d = fingerprints(Pool(4, embeddings=rows), np.arange(4))
    assert a == c == d != b
    members = np.array([[[0.0, 1], [1, 0]], [[1, 0], [0, 1]]])
    a, b = fingerprints(Pool(2, committee=members), np.arange(2))
    assert a != b
