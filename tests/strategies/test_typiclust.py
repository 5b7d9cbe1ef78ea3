import numpy as np

from strategies import Pool, Ranking, TypiClust


def rank(embeddings: np.ndarray, labeled: np.ndarray, size: int, batch_size: int) -> Ranking:
    pool = Pool(len(embeddings), embeddings=embeddings, labeled_embeddings=labeled)
    return TypiClust().rank(pool, size, batch_size=batch_size, seed=0)


def clouds(*sizes: int, seed: int = 0) -> np.ndarray:
    """(sum of sizes, 5) clouds far apart, one after the other."""
    rng = np.random.default_rng(seed)
    which = np.repeat(np.arange(len(sizes)), sizes)
    return (100 * np.eye(5)[which] + rng.normal(size=(len(which), 5))).astype(np.float32)


def test_typicality_by_hand() -> None:
    """One cluster of 0, 1, 3: mean distances to the two others are 2, 1.5 and 2.5."""
    ranking = rank(np.array([[0.0], [1], [3]]), np.empty((0, 1)), 1, batch_size=1)
    assert ranking.indices.tolist() == [1]
    np.testing.assert_allclose(ranking.scores, [1 / 1.5], rtol=1e-4)
    assert ranking.reasons == ("typical of a cluster of 3 images with none labeled or chosen",)


def test_only_the_twenty_nearest_count() -> None:
    """A tight group of 21 is more typical than the middle of a wide one, in one cluster."""
    tight = np.linspace(10, 10.2, 21)
    wide = np.linspace(0, 9, 60)
    ranking = rank(np.concatenate([wide, tight])[:, None], np.empty((0, 1)), 1, batch_size=1)
    assert ranking.indices[0] >= 60
    middle = tight[10]
    np.testing.assert_allclose(ranking.scores, 1 / (np.abs(tight - middle).sum() / 20), rtol=1e-3)


def test_one_of_each_cluster_largest_first() -> None:
    points = clouds(20, 50, 30)
    first = rank(points, points[:0], 3, batch_size=3).indices
    assert [np.searchsorted([20, 70, 100], i, side="right") for i in first] == [1, 2, 0]


def test_clusters_with_labels_come_later() -> None:
    points = clouds(20, 50, 30)
    labeled = points[[25, 75]] + 0.1  # of the second and third
    first = rank(points, labeled, 1, batch_size=1)
    assert first.indices[0] < 20


def test_later_batches_count_earlier_ones_as_labeled() -> None:
    points = clouds(40, 40, 40, 40)
    ranking = rank(points, points[:0], 4, batch_size=1)
    assert sorted((ranking.indices // 40).tolist()) == [0, 1, 2, 3]


def test_a_large_pool_is_sampled() -> None:
    points = np.random.default_rng(0).normal(size=(12_000, 2)).astype(np.float32)
    ranking = rank(points, points[:0], 600, batch_size=600)
    assert len(set(ranking.indices.tolist())) == 600
    everything = rank(points, points[:500], 12_000, batch_size=50)
    assert sorted(everything.indices.tolist()) == list(range(12_000))
