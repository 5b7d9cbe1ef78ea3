import numpy as np
import torch
from torch import Tensor

from strategies import Pool
from strategies.lazy import LazyGreedy


class Falling(LazyGreedy):
    """A score is a tenth less for each pick before it of the same kind; bounds are the scores without picks."""

    def __init__(self, scores: np.ndarray, kinds: np.ndarray, least: float) -> None:
        pool = Pool(len(scores), embeddings=np.arange(len(scores))[:, None])
        super().__init__(pool, np.arange(len(scores)), least=least)
        self.scores, self.kinds = torch.from_numpy(scores), torch.from_numpy(kinds)
        self.picked: list[int] = []

    def bounds(self) -> Tensor:
        bounds = self.scores.clone()
        bounds[torch.tensor(self.picked, dtype=torch.int64)] = -torch.inf
        return bounds

    def score(self, places: Tensor) -> Tensor:
        picked = torch.bincount(self.kinds[self.picked], minlength=int(self.kinds.max()) + 1)
        return self.scores[places] * 0.9 ** picked[self.kinds[places]].double()

    def add(self, place: int) -> None:
        self.picked.append(place)


def test_picks_are_those_of_scoring_everything_each_time() -> None:
    rng = np.random.default_rng(0)
    scores, kinds = rng.random(1000), rng.integers(5, size=1000)
    indices, found = Falling(scores, kinds, -np.inf).picks(200)
    counts, left = np.zeros(5), scores.copy()
    for i, score in zip(indices, found, strict=True):
        now = left * 0.9 ** counts[kinds]
        assert now.argmax() == i
        np.testing.assert_allclose(score, now[i])
        counts[kinds[i]] += 1
        left[i] = -1


def test_no_picks_where_no_score_is_above_the_least() -> None:
    """Of one kind: 1, then 0.9 · 0.9, then 0.8 · 0.81."""
    indices, scores = Falling(np.array([0.8, 1, 0.9]), np.zeros(3, dtype=int), 0.65).picks(3)
    assert indices.tolist() == [1, 2]
    np.testing.assert_allclose(scores, [1, 0.81])


def test_as_many_as_there_are() -> None:
    assert sorted(Falling(np.ones(4), np.zeros(4, dtype=int), -np.inf).picks(9)[0].tolist()) == [0, 1, 2, 3]
