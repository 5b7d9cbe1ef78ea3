"""Strategies that give each image a score of its own: the ranking is the highest scores."""

from abc import ABC, abstractmethod

import numpy as np

from strategies.objective import Factor, FixedFactor
from strategies.ordering import highest
from strategies.pool import Need, Pool, Scores
from strategies.protocol import Ranking, check_request


class ScoredStrategy(ABC):
    """Base of the strategies whose score of an image does not depend on the images chosen before it."""

    name: str
    needs: frozenset[Need]

    @abstractmethod
    def scores(self, pool: Pool) -> Scores:
        """(pool.size,) acquisition score of each image, higher = label sooner."""

    @abstractmethod
    def reason(self, pool: Pool, index: int) -> str:
        """Why the image at `index` was chosen, in words."""

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """The images with the highest scores."""
        check_request(size, batch_size)
        scores = self._finite_scores(pool)
        indices = highest(pool, scores, size)
        return Ranking(indices, scores[indices], tuple(self.reason(pool, int(i)) for i in indices))

    def factor(self, pool: Pool, size: int) -> Factor:
        """The score, as an objective of a product."""
        return FixedFactor(self.name, self._finite_scores(pool), lambda index: self.reason(pool, index))

    def _finite_scores(self, pool: Pool) -> Scores:
        scores = self.scores(pool)
        if not np.isfinite(scores).all():
            raise ValueError(
                f"{self.name} gave scores that are not finite: report it to who wrote the strategy."
            )
        return scores
