"""Information density: uncertain images, and among them those that stand for many others."""

from dataclasses import dataclass, field

import numpy as np

from strategies.distances import BLOCK
from strategies.pool import Floats, Need, Pool, Scores
from strategies.scored import ScoredStrategy
from strategies.uncertainty import Entropy


@dataclass(frozen=True)
class InformationDensity(ScoredStrategy):
    """Uncertainty times mean similarity to the pool to the power of `beta` (Settles & Craven, EMNLP 2008).

    Similarity is the cosine of embeddings. An image with a negative mean similarity counts as unlike the pool: 0.
    Raises ValueError for a beta that is negative or not finite.
    """

    uncertainty: ScoredStrategy = field(default_factory=Entropy)
    beta: float = 1.0
    needs: frozenset[Need] = field(init=False, repr=False)

    name = "information_density"

    def __post_init__(self) -> None:
        if not (np.isfinite(self.beta) and self.beta >= 0):
            raise ValueError(
                f"beta is {self.beta}; 0 ignores density, 1 is the usual, more weighs it higher."
            )
        object.__setattr__(self, "needs", self.uncertainty.needs | {Need.EMBEDDINGS})

    def scores(self, pool: Pool) -> Scores:
        return self.uncertainty.scores(pool) * mean_similarity(pool.require(Need.EMBEDDINGS)) ** self.beta

    def reason(self, pool: Pool, index: int) -> str:
        return f"{self.uncertainty.reason(pool, index)}; and like many others in the pool"


def mean_similarity(embeddings: Floats) -> Scores:
    """(n,) mean cosine similarity of each row to all rows, itself among them, no less than 0. A zero row has 0.

    It is the dot product with the mean of the unit vectors: two passes, no matrix of pairs.
    """
    total = np.zeros(embeddings.shape[1])
    for start in range(0, len(embeddings), BLOCK):
        total += _unit(embeddings[start : start + BLOCK]).sum(axis=0)
    # Rounded, because the last bits of a sum depend on the order of the pool.
    mean = (total / max(1, len(embeddings))).astype(np.float32).astype(np.float64)
    similarity = np.empty(len(embeddings))
    for start in range(0, len(embeddings), BLOCK):
        # A row's own sum, not a matrix product, whose last bits depend on where the row stands.
        similarity[start : start + BLOCK] = (_unit(embeddings[start : start + BLOCK]) * mean).sum(axis=1)
    return np.maximum(similarity, 0)


def _unit(rows: Floats) -> Scores:
    wide = rows.astype(np.float64)
    lengths = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    unit: Scores = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0)
    return unit
