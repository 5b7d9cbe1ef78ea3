"""Power acquisition: batches drawn at random, with chances that follow the scores.

The highest scores of a pool are often those of images that are like each other, and once one of these is labeled,
the scores of the others are out of date. Drawing instead of sorting allows for that at no cost.
"""

from dataclasses import dataclass, field

import numpy as np

from strategies.committee import Bald
from strategies.ordering import by_content
from strategies.pool import Need, Pool
from strategies.protocol import Ranking, check_request
from strategies.scored import ScoredStrategy


@dataclass(frozen=True)
class PowerAcquisition:
    """Images drawn without replacement, each with a chance in proportion to its score to the power of `coldness`.

    Kirsch et al., "Stochastic batch acquisition", TMLR 2023. The draw is the order of log score + noise, where the
    noise is Gumbel(0, 1/coldness). A coldness of 0 draws uniformly, 1 is the paper's; the higher, the nearer to the
    plain order of the scores. Images that score 0 come last. Scores are those of `score`.

    Raises ValueError for a coldness that is negative or not finite.
    """

    score: ScoredStrategy
    coldness: float = 1.0
    needs: frozenset[Need] = field(init=False, repr=False)

    name = "power_acquisition"

    def __post_init__(self) -> None:
        if not (np.isfinite(self.coldness) and self.coldness >= 0):
            raise ValueError(
                f"coldness is {self.coldness}; 0 draws uniformly, 1 is the usual, more keeps closer to the scores."
            )
        object.__setattr__(self, "needs", self.score.needs)

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """Any part of the ranking is a draw from what was left before it, so batches need no care of their own."""
        check_request(size, batch_size)
        scores = self.score.scores(pool)
        noise = np.empty(pool.size)
        noise[by_content(pool)] = np.random.default_rng(seed).gumbel(size=pool.size)
        informative = scores > 0
        # As the noise is continuous, only a score of 0 ties.
        keys = self.coldness * np.log(scores, out=np.zeros(pool.size), where=informative) + noise
        indices = np.lexsort((-keys, ~informative))[:size]
        reasons = tuple(f"drawn by its score: {self.score.reason(pool, int(i))}" for i in indices)
        return Ranking(indices, scores[indices], reasons)


@dataclass(frozen=True)
class PowerBald(PowerAcquisition):
    """PowerBALD: power acquisition by the mutual information of label and model (Kirsch et al., TMLR 2023)."""

    score: ScoredStrategy = field(default_factory=Bald, init=False)

    name = "power_bald"
