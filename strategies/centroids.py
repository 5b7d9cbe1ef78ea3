"""Diversity by clusters: the images nearest the centres of clusters of the pool, each a stand-in for the others."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from strategies.clustering import in_turns, k_means
from strategies.distances import Space, squared_distances
from strategies.nearest import nearest_squares
from strategies.ordering import by_content
from strategies.pool import Indices, Need, Pool, Scores
from strategies.protocol import Ranking, check_request
from strategies.sampling import sample
from strategies.scored import ScoredStrategy
from strategies.seeding import Seeding
from strategies.uncertainty import Entropy

_CLUSTERS = 500  # that are formed for the later batches at once
_SAMPLE = 20_000  # images of a larger pool: 40 for each of these


@dataclass(frozen=True)
class KMeans:
    """The image nearest the centre of each of `batch_size` clusters of the pool, largest first (Xu et al., ECIR 2003).

    As the second step of `filter_then_diversify` it makes Zhdanov's diverse mini-batches (2019). Scores are the
    distances to the centres, negative.

    Later batches come from clusters of the pool and what is picked already, as many as there are picks then (500, or
    a batch, at most); those without a pick first. A clustering serves as many picks as there were before it, so that
    a long ranking takes few. A uniform sample of 20,000 images stands for a larger pool.
    """

    name = "k_means"
    needs = frozenset({Need.EMBEDDINGS})

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """Each batch is spread over the pool, and away from the batches before it."""
        check_request(size, batch_size)
        return _nearest_to_centroids(
            pool, None, size, batch_size, seed, lambda _, images: _of_cluster(images)
        )


@dataclass(frozen=True)
class Clue:
    """CLUE: as `k_means`, with each image counting as much as it is uncertain (Prabhu et al., ICCV 2021).

    So the clusters crowd where the model is unsure. Their order is by summed uncertainty. The uncertainty is the
    entropy, unless another score is given; none of the scores may be negative, which raises ValueError. A larger pool
    is sampled with a chance proportional to the uncertainty.
    """

    uncertainty: ScoredStrategy = field(default_factory=Entropy)
    needs: frozenset[Need] = field(init=False, repr=False)

    name = "clue"

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs", self.uncertainty.needs | {Need.EMBEDDINGS})

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """Each batch is spread over what is uncertain, and away from the batches before it."""
        check_request(size, batch_size)
        weights = self.uncertainty.scores(pool)
        if (weights < 0).any():
            raise ValueError(
                f"clue weighs images by {self.uncertainty.name}, which is negative for some; "
                "take an uncertainty that is not, such as entropy."
            )
        return _nearest_to_centroids(
            pool,
            weights if weights.any() else None,
            size,
            batch_size,
            seed,
            lambda index, images: f"{self.uncertainty.reason(pool, index)}; {_of_cluster(images)}",
        )


@dataclass(frozen=True)
class KMeansPlusPlus:
    """k-means++ seeding: images drawn in proportion to squared distance (Arthur & Vassilvitskii, SODA 2007).

    The distance is to the nearest labeled or drawn image. Scores are these distances. With nothing labeled the first
    image is drawn uniformly and scores 0.
    """

    name = "k_means_plus_plus"
    needs = frozenset({Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS})

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """Every image is drawn with regard to all before it, so batches need no care of their own."""
        check_request(size, batch_size)
        rng = np.random.default_rng(seed)
        distances = _ToLabeledOrDrawn(pool)
        points = by_content(pool)
        seeding = Seeding(points, distances, rng)
        size = min(size, pool.size)
        picks: list[tuple[int, float]] = []
        if size:
            chances = distances.first_chances()[points].cumsum()
            place = int(np.searchsorted(chances, rng.random() * chances[-1], side="right")) % pool.size
            picks.append((int(points[place]), distances.to_labeled(int(points[place]))))
            seeding.start(place)
        while len(picks) < size:
            pick = seeding.draw()
            picks += [pick] if pick else [(int(i), 0.0) for i in seeding.left()[: size - len(picks)]]
        scores = np.sqrt([square for _, square in picks])
        reasons = [f"drawn for its distance to all labeled or chosen before it ({d:.3g})" for d in scores]
        if reasons and not len(pool.require(Need.LABELED_EMBEDDINGS)):
            reasons[0] = "drawn at random, as the first"
        return Ranking(np.array([index for index, _ in picks], dtype=np.int64), scores, tuple(reasons))


class _ToLabeledOrDrawn:
    """Squared distances of images to the labeled set or to others, whichever is less."""

    def __init__(self, pool: Pool) -> None:
        self.space = Space(pool.require(Need.EMBEDDINGS))
        self.labeled = nearest_squares(self.space, pool.require(Need.LABELED_EMBEDDINGS)).cpu().numpy()

    def first_chances(self) -> Scores:
        """(n,) squared distance to the labeled set; 1 for all where that is empty."""
        return np.where(np.isinf(self.labeled), 1.0, self.labeled)

    def to_labeled(self, index: int) -> float:
        """The squared distance of one image to the labeled set; 0 where that is empty."""
        return float(self.labeled[index]) if np.isfinite(self.labeled[index]) else 0.0

    def __call__(self, positions: Indices, others: Indices) -> Scores:
        rows, centers = (self.space.rows(self.space.points[p]) for p in (positions, others))
        squares = squared_distances(rows, centers)
        squares[squares <= rows.norms[:, None] * self.space.rounding(1)] = 0
        nearer: Scores = np.minimum(squares.cpu().numpy(), self.labeled[positions, None])
        return nearer


def _of_cluster(images: int) -> str:
    return f"nearest the centre of a cluster of {images} images" if images > 1 else "unlike any other image"


def _mass(weights: Scores | None, candidates: Indices) -> Scores:
    """(len(candidates),) what each candidate stands for: its weight over the chance that it had to be drawn by it."""
    if weights is None:
        return np.ones(len(candidates))
    mass: Scores = weights[candidates]
    if len(candidates) < len(weights):
        mass = np.where(mass > 0, np.maximum(mass, weights.sum() / len(candidates)), 0)
    return mass


def _nearest_to_centroids(
    pool: Pool,
    weights: Scores | None,
    size: int,
    batch_size: int,
    seed: int,
    reason: Callable[[int, int], str],
) -> Ranking:
    """`weights` are the images', uniform where None; `reason` is given a position and the images in its cluster."""
    size = min(size, pool.size)
    candidates = sample(pool, max(size, _SAMPLE), seed, weights)
    mass = _mass(weights, candidates)
    space = Space(pool.require(Need.EMBEDDINGS)[candidates])
    most = min(max(_CLUSTERS, batch_size), len(candidates))
    taken = np.zeros(len(candidates), dtype=bool)
    picks: Indices = np.empty(0, dtype=np.int64)
    scores: Scores = np.empty(0)
    reasons: list[str] = []
    while len(picks) < size:
        step = max(batch_size, len(picks))
        clusters = min(len(picks) + step, most)
        step = min(step, size - len(picks)) if clusters < most else size - len(picks)
        found = k_means(space, clusters, seed, mass)
        labels, distances = found.labels.cpu().numpy(), np.sqrt(found.squares.cpu().numpy())
        turns = in_turns(labels, taken, -distances, mass)
        best = turns.order[:step]
        reasons += [reason(int(candidates[i]), int(turns.sizes[labels[i]])) for i in best]
        scores = np.append(scores, -distances[best])
        picks = np.append(picks, best)
        taken[best] = True
    return Ranking(candidates[picks], scores, tuple(reasons))
