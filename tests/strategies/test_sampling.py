import numpy as np

from strategies import Pool
from strategies.sampling import sample


def test_a_small_pool_is_its_own_sample() -> None:
    assert sorted(sample(Pool(5, embeddings=np.eye(5)), 5, seed=0).tolist()) == [0, 1, 2, 3, 4]


def test_each_image_has_the_same_chance() -> None:
    pool = Pool(10, embeddings=np.eye(10))
    counts = np.bincount(np.concatenate([sample(pool, 3, seed=s) for s in range(1000)]), minlength=10)
    np.testing.assert_allclose(counts / 1000, 0.3, atol=0.05)  # more than three standard errors


def test_the_chance_follows_the_weight() -> None:
    pool = Pool(4, embeddings=np.eye(4))
    weights = np.array([1.0, 2, 0, 5])
    counts = np.bincount([sample(pool, 1, seed=s, weights=weights)[0] for s in range(1000)], minlength=4)
    np.testing.assert_allclose(counts / 1000, weights / 8, atol=0.05)
    assert counts[2] == 0


def test_the_order_of_the_pool_does_not_matter() -> None:
    points, weights = np.random.default_rng(0).normal(size=(50, 2)), np.arange(50.0)
    one = points[sample(Pool(50, embeddings=points), 20, seed=1, weights=weights)]
    other = points[::-1][sample(Pool(50, embeddings=points[::-1]), 20, seed=1, weights=weights[::-1])]
    assert one.tolist() == other.tolist()
