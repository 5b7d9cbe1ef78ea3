"""Density: images that stand for many others, by the cosine of embeddings."""

from dataclasses import dataclass, field

import numpy as np

from strategies.adaptive import choose_adaptively
from strategies.distances import BLOCK
from strategies.pool import Floats, Indices, Need, Pool, Scores
from strategies.protocol import Ranking, check_request
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


@dataclass(frozen=True)
class Representative(ScoredStrategy):
    """What is typical of the domain to be served, and not of the labeled set (Munro, Human-in-the-Loop ML, ch. 4).

    Cosine similarity to the centroid of the domain, less that to the centroid of the labeled set. The domain is the
    pool, or `Pool.target_embeddings` where given; the centroid is the mean of embeddings scaled to length 1. With
    nothing labeled only the first counts.
    """

    name = "representative"
    needs = frozenset({Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS})

    def scores(self, pool: Pool) -> Scores:
        return _typical_of_one(pool, _direction(_domain(pool)), _sum(pool.require(Need.LABELED_EMBEDDINGS)))

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """Munro's adaptive sampling: what is chosen counts as labeled, in mini-batches. Scores are of that time."""
        check_request(size, batch_size)
        embeddings = pool.require(Need.EMBEDDINGS)
        domain, labeled = _direction(_domain(pool)), _sum(pool.require(Need.LABELED_EMBEDDINGS))

        def given(picks: Indices) -> Scores:
            return _typical_of_one(pool, domain, labeled + _sum(embeddings[picks]))

        picks, scores = choose_adaptively(pool, size, batch_size, given)
        return Ranking(picks, scores, tuple(self.reason(pool, int(i)) for i in picks))

    def reason(self, pool: Pool, index: int) -> str:
        domain = "pool" if pool.target_embeddings is None else "domain to be served"
        return f"typical of the {domain}, and less of what is labeled or chosen before"


def _domain(pool: Pool) -> Floats:
    return pool.require(Need.EMBEDDINGS) if pool.target_embeddings is None else pool.target_embeddings


def _typical_of_one(pool: Pool, domain: Scores, other: Scores) -> Scores:
    """(pool.size,) cosine similarity to the one direction, less that to the other, unless it is 0."""
    return _projection(pool.require(Need.EMBEDDINGS), domain - _unit(other[None])[0])


def mean_similarity(embeddings: Floats) -> Scores:
    """(n,) mean cosine similarity of each row to all rows, itself among them, no less than 0. A zero row has 0.

    It is the dot product with the mean of the unit vectors: two passes, no matrix of pairs.
    """
    mean = _sum(embeddings) / max(1, len(embeddings))
    # Rounded far below what means anything: sums in another order end in other digits, and ties go by content.
    similarity: Scores = np.maximum(np.round(_projection(embeddings, mean), 12), 0)
    return similarity


def _direction(embeddings: Floats) -> Scores:
    """The centroid of the rows scaled to length 1, itself of length 1."""
    direction: Scores = _unit(_sum(embeddings)[None])[0]
    return direction


def _sum(embeddings: Floats) -> Scores:
    """(dimensions,) sum of the rows scaled to length 1."""
    total = np.zeros(embeddings.shape[1])
    for start in range(0, len(embeddings), BLOCK):
        total += _unit(embeddings[start : start + BLOCK]).sum(axis=0)
    return total


def _projection(embeddings: Floats, onto: Scores) -> Scores:
    """(n,) dot products of the rows scaled to length 1 with a direction."""
    # Rounded, because the last bits of a sum depend on the order of the pool.
    onto = onto.astype(np.float32).astype(np.float64)
    products = np.empty(len(embeddings))
    for start in range(0, len(embeddings), BLOCK):
        rows = embeddings[start : start + BLOCK].astype(np.float64)
        # Row by row, not as a matrix product, whose last bits depend on where the row stands.
        along, lengths = np.einsum("ij,j->i", rows, onto), np.sqrt(np.einsum("ij,ij->i", rows, rows))
        products[start : start + BLOCK] = np.divide(
            along, lengths, out=np.zeros_like(along), where=lengths > 0
        )
    return products


def _unit(rows: Floats | Scores) -> Scores:
    wide = rows.astype(np.float64)
    lengths = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    unit: Scores = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0)
    return unit
