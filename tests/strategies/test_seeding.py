import numpy as np
import pytest

from strategies import seeding as module
from strategies.pool import Indices, Scores
from strategies.seeding import Seeding


class Points:
    """(n, dimensions)"""

    def __init__(self, places: np.ndarray) -> None:
        self.places = places
        self.computed = 0

    def squared_distances(self, positions: Indices, others: Indices) -> Scores:
        self.computed += len(positions) * len(others)
        squares: Scores = ((self.places[positions][:, None] - self.places[others]) ** 2).sum(axis=2)
        return squares

    def seeding(self, seed: int, first: int = 0) -> Seeding:
        seeds = Seeding(np.arange(len(self.places)), self.squared_distances, np.random.default_rng(seed))
        seeds.start(first)
        return seeds


def line(*places: float) -> Points:
    return Points(np.array(places)[:, None])


@pytest.mark.parametrize(("proposals", "patience"), [(1, 2), (16, 4096)])
def test_each_is_drawn_in_proportion_to_its_squared_distance(
    proposals: int, patience: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PROPOSALS", proposals)
    monkeypatch.setattr(module, "_PATIENCE", patience)
    points = line(0, 1, 3, 6)
    pairs = []
    for seed in range(2000):
        seeds = points.seeding(seed)
        pairs.append([pick[0] for pick in (seeds.draw(), seeds.draw()) if pick])
    second, third = np.array(pairs).T
    np.testing.assert_allclose(np.bincount(second) / 2000, np.array([0, 1, 9, 36]) / 46, atol=0.03)
    # With 0 and 6 drawn, 1 is 1 away from the nearest and 3 is 3 away.
    assert np.mean(third[second == 3] == 2) == pytest.approx(9 / 10, abs=0.03)


def test_squared_distances_to_the_nearest_before() -> None:
    seeds = line(0, 4, 10).seeding(0)
    picks = dict(pick for pick in (seeds.draw(), seeds.draw()) if pick)
    assert picks in ({1: 16, 2: 36}, {2: 100, 1: 16})


def test_points_that_repeat_those_drawn_are_left() -> None:
    seeds = line(5, 5, 7, 7, 5).seeding(0)
    first = seeds.draw()
    assert first is not None and first[0] in (2, 3)
    assert seeds.draw() is None
    assert seeds.left().tolist() == [1, 5 - first[0], 4]


def test_few_distances_are_computed() -> None:
    points = Points(np.random.default_rng(0).normal(size=(20_000, 16)))
    seeds = points.seeding(0)
    picks = [pick[0] for pick in (seeds.draw() for _ in range(200)) if pick]
    assert len(set(picks)) == 200
    assert points.computed < 0.1 * 200 * 20_000


def test_clusters_are_all_found() -> None:
    rng = np.random.default_rng(0)
    cluster = rng.integers(50, size=20_000)
    seeds = Points((1000 * cluster + rng.normal(size=20_000))[:, None]).seeding(0)
    drawn = [0] + [pick[0] for pick in (seeds.draw() for _ in range(49)) if pick]
    assert len(set(cluster[drawn])) == 50
