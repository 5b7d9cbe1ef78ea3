import numpy as np

from strategies.clustering import k_means
from strategies.distances import BLOCK, Space


def test_clouds_apart_are_clusters() -> None:
    rng = np.random.default_rng(0)
    clouds = rng.integers(4, size=2 * BLOCK)
    points = (np.eye(4)[clouds] * 20 + rng.normal(size=(len(clouds), 4))).astype(np.float32)
    labels = k_means(Space(points), 4, seed=1).numpy()
    assert len({(int(a), int(b)) for a, b in zip(clouds, labels, strict=True)}) == 4


def test_more_clusters_than_different_points() -> None:
    points = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    labels = k_means(Space(points), 6, seed=0).numpy()
    assert len({int(label) for label in labels}) == 3
    assert labels.max() < 6
