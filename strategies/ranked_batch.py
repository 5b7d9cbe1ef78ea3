"""Ranked batch: uncertainty, weighed against unlikeness to all that is labeled or chosen."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from strategies.distances import BLOCK, Space
from strategies.lazy import LazyGreedy
from strategies.nearest import nearest, nearest_squares
from strategies.ordering import highest
from strategies.pool import Need, Pool, Scores
from strategies.protocol import Ranking, check_request
from strategies.scored import ScoredStrategy
from strategies.uncertainty import LeastConfidence


@dataclass(frozen=True)
class RankedBatch:
    """Ranked batch-mode sampling (Cardoso et al., Information Sciences 2017).

    Each pick has the highest α (1 − similarity) + (1 − α) uncertainty, with similarity 1 / (1 + d) and d the distance
    to the nearest labeled or picked image. α is the share of what is not labeled: with few labels unlikeness decides,
    with many uncertainty, which should be on a scale from 0 to 1, as `least_confidence` and `margin` are.

    With nothing labeled the first pick is the image nearest the pool's mean, which has the least mean squared
    distance to all images; it scores 1.
    """

    uncertainty: ScoredStrategy = field(default_factory=LeastConfidence)
    needs: frozenset[Need] = field(init=False, repr=False)

    name = "ranked_batch"

    def __post_init__(self) -> None:
        needs = self.uncertainty.needs | {Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS}
        object.__setattr__(self, "needs", needs)

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """Each pick is the best given all before it, so batches need no care of their own."""
        check_request(size, batch_size)
        size = min(size, pool.size)
        greedy = _Ranked(pool, self.uncertainty.scores(pool))
        central = greedy.start() if size and not greedy.labeled else []
        indices, scores = greedy.picks(size - len(central))
        reasons = ["nearest the centre of the pool"] * len(central)
        reasons += [
            f"{self.uncertainty.reason(pool, int(i))}; and unlike all that is labeled or chosen before it"
            for i in indices
        ]
        return Ranking(
            np.append(np.array(central, dtype=np.int64), indices),
            np.append(np.ones(len(central)), scores),
            tuple(reasons),
        )


class _Ranked(LazyGreedy):
    """What is labeled or picked, and a distance to the nearest of it that each image does not exceed."""

    def __init__(self, pool: Pool, uncertainty: Scores) -> None:
        super().__init__(pool, np.arange(pool.size))
        self.embeddings, labeled = pool.require(Need.EMBEDDINGS), pool.require(Need.LABELED_EMBEDDINGS)
        self.labeled = len(labeled)
        self.space = Space(self.embeddings)
        self.uncertainty = torch.from_numpy(uncertainty).to(self.space.points.device)
        self.squares = nearest_squares(self.space, labeled)
        self.seen = torch.zeros_like(self.squares, dtype=torch.int64)  # how many of the picks that takes in
        self.picked: list[int] = []

    def start(self) -> list[int]:
        """Picks the image nearest the mean."""
        # Rounded, because the last bits of a sum depend on the order of the pool.
        mean = self.embeddings.mean(axis=0, dtype=np.float64).astype(np.float32)
        squares = nearest_squares(self.space, mean[None])
        central = squares <= squares.min() + self.space.rounding(float(squares.min()))
        first = int(highest(self.pool, central.double().cpu().numpy(), 1)[0])
        self.squares = nearest_squares(self.space, self.embeddings[[first]])
        self.add(first)
        self.seen.fill_(1)
        return [first]

    def bounds(self) -> Tensor:
        bounds = self._scores(self.squares, self.uncertainty)
        bounds[torch.tensor(self.picked, dtype=torch.int64)] = -torch.inf
        return bounds

    def score(self, places: Tensor) -> Tensor:
        for part in torch.split(places, BLOCK):
            if missed := self.picked[int(self.seen[part].min()) :]:
                rows = self.space.rows(self.space.points[part])
                squares, _ = nearest(rows, self.space, self.embeddings[missed])
                self.squares[part] = torch.minimum(self.squares[part], squares)
                self.seen[part] = len(self.picked)
        return self._scores(self.squares[places], self.uncertainty[places])

    def add(self, place: int) -> None:
        self.picked.append(place)

    def _scores(self, squares: Tensor, uncertainty: Tensor) -> Tensor:
        alpha = (self.pool.size - len(self.picked)) / (self.pool.size + self.labeled)
        return alpha * (1 - 1 / (1 + squares.sqrt())) + (1 - alpha) * uncertainty
