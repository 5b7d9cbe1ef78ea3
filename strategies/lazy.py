"""Greedy selection that scores few images anew for each pick."""

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from strategies.ordering import fingerprints
from strategies.pool import Indices, Pool, Scores

_WIDTH = 64  # images scored at once


class LazyGreedy(ABC):
    """The picks of scoring all images after each pick, where upper bounds of the scores are cheap (Minoux, 1978).

    The images with the highest bounds are scored until one scores above all other bounds. Scores that differ by no
    more than `rounding` are ties, broken by content.

    candidates: (n,) positions in the pool of what is picked from; a place is an index of it.
    least: where no score is above it, there are no more picks.
    """

    rounding = 1e-9

    def __init__(self, pool: Pool, candidates: Indices, *, least: float = -np.inf) -> None:
        self.pool = pool
        self.candidates = candidates
        self.least = least

    @abstractmethod
    def bounds(self) -> Tensor:
        """(n,) a number that the score of each image does not exceed; -inf for the picks."""

    @abstractmethod
    def score(self, places: Tensor) -> Tensor:
        """(k,) the scores of the images at these places, given all picks. None of them is a pick."""

    @abstractmethod
    def add(self, place: int) -> None:
        """Makes the image at this place a pick."""

    def picks(self, size: int) -> tuple[Indices, Scores]:
        """Positions in the pool of min(size, n) picks, or fewer, and their scores when they were picked."""
        places: list[int] = []
        scores: list[float] = []
        while len(places) < min(size, len(self.candidates)):
            front, fresh = self._front()
            best = float(fresh.max())
            if best <= self.least:
                break
            tied = front[fresh >= best - self.rounding].cpu().numpy()
            place = int(tied[0])
            if len(tied) > 1:
                positions = self.candidates[tied]
                place = int(tied[np.lexsort((positions, fingerprints(self.pool, positions)))[0]])
            places.append(place)
            scores.append(best)
            self.add(place)
        return self.candidates[places], np.array(scores, dtype=np.float64)

    def _front(self) -> tuple[Tensor, Tensor]:
        """Places and scores of some images that are no picks, all that have the highest score among them."""
        bounds = self.bounds().clone()
        left = int((bounds > -torch.inf).sum())
        places, scores = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.float64)
        places, scores = places.to(bounds.device), scores.to(bounds.device)
        width = _WIDTH
        while len(places) < left and (not len(places) or scores.max() - self.rounding <= float(bounds.max())):
            more = torch.topk(bounds, min(width, left - len(places))).indices
            bounds[more] = -torch.inf
            places, scores = torch.cat([places, more]), torch.cat([scores, self.score(more)])
            width *= 2  # where many bounds are far off, more are scored at once
        return places, scores
