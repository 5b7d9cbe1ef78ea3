"""The product of objectives beside lightly-mundig's."""

import numpy as np
from lightly_mundig import Selection
from numpy.typing import NDArray

from strategies import KCenterGreedy, LeastConfidence, Pool, Product


def lightly(places: NDArray[np.float32], weights: list[float], size: int) -> list[int]:
    """Its picks where the first image is labeled. Its diversity is the squared distance, hence the strength."""
    selection = Selection()
    selection.add_diversifying_strategy(places, 0.5)
    selection.add_weighting_strategy(weights, 1.0)
    return [index - 1 for index in selection.run_selection([0], len(places), 1 + size)[1:]]


def ours(places: NDArray[np.float32], weights: list[float], size: int) -> list[int]:
    u = np.array(weights[1:]) / 2
    pool = Pool(
        len(u),
        committee=np.stack([1 - u, u], axis=1)[None],
        embeddings=places[1:],
        labeled_embeddings=places[:1],
    )
    product = Product((LeastConfidence(), KCenterGreedy()))
    return [int(index) for index in product.rank(pool, size, batch_size=1, seed=0).indices]


def test_the_first_pick_is_the_same() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        places = rng.normal(size=(100, 3)).astype(np.float32)
        weights = [0.0, *rng.random(99)]
        assert ours(places, weights, 1) == lightly(places, weights, 1)


def test_a_weight_does_not_fade() -> None:
    """Lightly adds to an image's weight those of all that is labeled or picked, so weights soon decide nothing."""
    places = np.array([[0], [1.0], [-1.1]], dtype=np.float32)
    for labeled in (0.0, 100.0):
        assert ours(places, [labeled, 0.9, 0.3], 1) == [0]
    assert lightly(places, [0.0, 0.9, 0.3], 1) == [0]
    assert lightly(places, [100.0, 0.9, 0.3], 1) == [1]  # a tenth farther, a third of the weight


def test_the_same_picks_by_weight_alone() -> None:
    weights = np.random.default_rng(0).random(200)
    selection = Selection()
    selection.add_weighting_strategy(weights.tolist(), 1.0)
    theirs = selection.run_selection([], 200, 40)
    pool = Pool(200, committee=np.stack([1 - weights / 2, weights / 2], axis=1)[None])
    assert Product((LeastConfidence(),)).rank(pool, 40, batch_size=1, seed=0).indices.tolist() == theirs
