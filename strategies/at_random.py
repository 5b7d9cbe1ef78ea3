"""Uniform choice: the baseline, and the exploring part of a mixture."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from strategies.ordering import by_content
from strategies.pool import Need, Pool
from strategies.protocol import Ranking, check_request


@dataclass(frozen=True)
class Random:
    """Images drawn uniformly without replacement."""

    name = "random"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """The images with the highest of uniform random scores."""
        check_request(size, batch_size)
        scores = np.empty(pool.size)
        scores[by_content(pool)] = np.random.default_rng(seed).random(pool.size)
        indices = np.argsort(-scores, kind="stable")[:size]
        return Ranking(indices, scores[indices], ("chosen at random",) * len(indices))
