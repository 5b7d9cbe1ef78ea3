import numpy as np
from sklearn.cluster import KMeans

from strategies.clustering import in_turns, k_means
from strategies.distances import BLOCK, Space


def test_clouds_apart_are_clusters() -> None:
    rng = np.random.default_rng(0)
    clouds = rng.integers(4, size=2 * BLOCK)
    points = (np.eye(4)[clouds] * 20 + rng.normal(size=(len(clouds), 4))).astype(np.float32)
    labels = k_means(Space(points), 4, seed=1).labels.numpy()
    assert len({(int(a), int(b)) for a, b in zip(clouds, labels, strict=True)}) == 4


def test_more_clusters_than_different_points() -> None:
    points = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    labels = k_means(Space(points), 6, seed=0).labels.numpy()
    assert len({int(label) for label in labels}) == 3
    assert labels.max() < 6


def test_squared_distances_to_the_centres() -> None:
    """Two clusters of 0, 2 and of 10, 14: centres 1 and 12."""
    found = k_means(Space(np.array([[0], [2], [10], [14]], dtype=np.float32)), 2, seed=0)
    np.testing.assert_allclose(found.squares.numpy(), [1, 1, 4, 4], atol=1e-9)


def test_a_point_counts_as_often_as_it_weighs() -> None:
    """One cluster of 0 and, three times, 4: centre 3."""
    found = k_means(Space(np.array([[0], [4]], dtype=np.float32)), 1, seed=0, weights=np.array([1.0, 3.0]))
    np.testing.assert_allclose(found.squares.numpy(), [9, 1], atol=1e-9)


def test_a_large_weighted_set_is_sampled_by_weight() -> None:
    """All but 200 of 20,000 points weigh nothing; the centres lie among the 200."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(20_000, 2)).astype(np.float32)
    points[:100] += [50, 0]
    points[100:200] += [0, 50]
    found = k_means(Space(points), 2, seed=0, weights=(np.arange(20_000) < 200).astype(float))
    assert (found.squares[:200] < 25).all()


def test_clusters_are_as_tight_as_those_of_scikit_learn() -> None:
    """On average: both end in a local optimum."""
    ratios = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        points = rng.normal(size=(1000, 8)) + 3 * rng.normal(size=(20, 8))[rng.integers(20, size=1000)]
        ours = float(k_means(Space(points.astype(np.float32)), 20, seed=seed).squares.sum())
        ratios.append(ours / KMeans(20, random_state=seed).fit(points).inertia_)
    assert np.mean(ratios) < 1.1


def test_turns() -> None:
    """Clusters of 3 (one taken), 2, 1 and 2: those without a label first, of these the heaviest, then the label's."""
    labels = np.array([0, 0, 0, 1, 1, 2, 3, 3])
    taken = np.array([True, False, False, False, False, False, False, False])
    worth = np.array([9, 1, 2, 5, 4, 0, 1, 3.0])
    turns = in_turns(labels, taken, worth, mass=np.array([1, 1, 1, 1, 1, 1, 2, 2.0]))
    assert turns.order.tolist() == [7, 3, 5, 6, 2, 4, 1]
    assert turns.sizes.tolist() == [3, 2, 1, 2]
    assert turns.covered.tolist() == [1, 0, 0, 0]
    assert in_turns(labels, taken, worth, np.ones(8), least=2).order.tolist() == [3, 7, 2, 4, 6, 1, 5]
