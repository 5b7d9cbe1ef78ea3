"""Coverage: with few or no labels, the images that most of the pool is like, and that nothing labeled is like yet.

An image is covered as much as it is like the labeled or picked image that it is most like. Each pick is the one that
adds most to the pool's mean. The gain of an image only shrinks as others are picked, so lazy evaluation is exact.

A uniform sample of 5,000 images stands for a larger pool: both what is picked and what is to be covered. The coverage
of any given picks is within 0.02 of what they cover of the pool, 95 times in 100 (Hoeffding's inequality).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from strategies.clustering import k_means
from strategies.distances import Space, squared_distances
from strategies.lazy import LazyGreedy
from strategies.nearest import nearest_squares
from strategies.pool import Floats, Indices, Need, Pool, Scores
from strategies.protocol import Ranking, check_request
from strategies.sampling import sample
from strategies.scored import ScoredStrategy
from strategies.uncertainty import Margin

_SAMPLE = 5_000  # the similarities of all pairs take 100 MB
_BLOCK = 1024
_WIDTH = 64  # rows of similarities that stay in a processor's cache

Kernel = Callable[[Tensor], Tensor]  # squared distances to similarities, from 0 to 1


@dataclass(frozen=True)
class MaxHerding:
    """MaxHerding: greedy maximum coverage with a Gaussian kernel (Bae, Noh & Sutherland, ECCV 2024).

    Images are alike by exp(-(distance / bandwidth)²) of embeddings scaled to length 1; the bandwidth is 1, as in the
    paper, unless given. Unlike ProbCover's radius it hardly matters. Scores are what a pick adds to the mean coverage.

    Raises ValueError for a bandwidth that is not above 0.
    """

    bandwidth: float = 1.0

    name = "max_herding"
    needs = frozenset({Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS})

    def __post_init__(self) -> None:
        _check_bandwidth(self.bandwidth)

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """Each pick is the best given all before it, so batches need no care of their own."""
        check_request(size, batch_size)
        kernel = _gaussian(self.bandwidth)
        indices, gains = _cover(pool, size, seed, lambda _: kernel, scaled=True)
        reasons = tuple(
            f"much of the pool is like it and like nothing labeled or chosen before (adds {gain:.2%} coverage)"
            if gain > 0
            else "the same as one labeled or chosen before"
            for gain in gains
        )
        return Ranking(indices, gains, reasons)


@dataclass(frozen=True)
class UncertaintyHerding:
    """Uncertainty herding: as MaxHerding, with each image counting as much as the model is unsure of it.

    Bae, Oliveira & Sutherland, ICLR 2025: "one active learning method for all label budgets".
    A new learner is unsure of everything, and what most of the pool is like comes first; later it is what many
    uncertain images are like. The uncertainty is the margin, unless another score is given; none of the scores may be
    negative, which raises ValueError. A larger pool is sampled with a chance proportional to the uncertainty.
    """

    uncertainty: ScoredStrategy = field(default_factory=Margin)
    bandwidth: float = 1.0
    needs: frozenset[Need] = field(init=False, repr=False)

    name = "uncertainty_herding"

    def __post_init__(self) -> None:
        _check_bandwidth(self.bandwidth)
        object.__setattr__(self, "needs", self.uncertainty.needs | {Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS})

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """Each pick is the best given all before it, so batches need no care of their own."""
        check_request(size, batch_size)
        weights = self.uncertainty.scores(pool)
        if (weights < 0).any():
            raise ValueError(
                f"uncertainty_herding weighs images by {self.uncertainty.name}, which is negative for some; "
                "take an uncertainty that is not, such as margin."
            )
        kernel = _gaussian(self.bandwidth)
        indices, gains = _cover(
            pool, size, seed, lambda _: kernel, scaled=True, weights=weights if weights.any() else None
        )
        reasons = tuple(
            f"{self.uncertainty.reason(pool, int(index))}; and like much that is uncertain and unlike all labeled"
            if gain > 0
            else "the same as one labeled or chosen before"
            for index, gain in zip(indices, gains, strict=True)
        )
        return Ranking(indices, gains, reasons)


@dataclass(frozen=True)
class ProbCover:
    """ProbCover: greedy maximum coverage by balls of radius `delta` (Yehuda et al., NeurIPS 2022).

    An image covers all that are nearer than delta. Scores are the share of the pool that a pick newly covers. Once
    all is covered, the rest is drawn at random. Much depends on delta, and the rule below may miss: `max_herding` is
    the robust successor.

    Unless given, delta is the largest distance at which 95 % of the balls are pure: all images in them belong to the
    same of as many k-means clusters as the pool has classes, or `classes` where it does not tell. It is found
    without a search: a ball is pure up to the nearest image of another cluster, and delta is a quantile of those
    distances.

    Raises ValueError for a delta that is not above 0 and for fewer than two classes.
    """

    delta: float | None = None
    classes: int = 10

    name = "prob_cover"
    needs = frozenset({Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS})

    def __post_init__(self) -> None:
        if self.delta is not None and not (np.isfinite(self.delta) and self.delta > 0):
            raise ValueError(f"delta is {self.delta}; it is a distance, above 0, or left out.")
        if self.classes < 2:
            raise ValueError(f"classes is {self.classes}; balls are pure or not where there are 2 or more.")

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """Each pick is the best given all before it, so batches need no care of their own."""
        check_request(size, batch_size)
        clusters = max(2, len(pool.classes) or self.classes)

        def top_hat(space: Space) -> Kernel:
            radius = self.delta**2 if self.delta is not None else _pure_square(space, clusters, seed)
            return lambda squares: (squares < radius).to(squares.dtype)

        indices, gains = _cover(pool, size, seed, top_hat, scaled=False)
        reasons = tuple(
            f"near {gain:.2%} of the pool that nothing labeled or chosen before is near"
            if gain > 0
            else "drawn at random: all of the pool is near something labeled or chosen"
            for gain in gains
        )
        return Ranking(indices, gains, reasons)


def _check_bandwidth(bandwidth: float) -> None:
    if not (np.isfinite(bandwidth) and bandwidth > 0):
        raise ValueError(f"bandwidth is {bandwidth}; it is a distance, above 0.")


def _gaussian(bandwidth: float) -> Kernel:
    return lambda squares: squares.div_(-(bandwidth**2)).exp_()


_PURITY = 0.95  # as in the paper


def _pure_square(space: Space, clusters: int, seed: int) -> float:
    """The largest squared radius at which the share of pure balls is no less than `_PURITY`."""
    labels = k_means(space, min(clusters, len(space.points)), seed).labels
    everything = space.rows(space.points)
    to_others = torch.empty_like(everything.norms)
    for start in range(0, len(labels), _BLOCK):
        block = slice(start, start + _BLOCK)
        squares = squared_distances(everything.at(block), everything)
        squares.masked_fill_(labels[block, None] == labels, torch.inf)
        to_others[block] = squares.amin(dim=1)
    impure = int((1 - _PURITY) * len(labels) + 1e-9)  # balls that may be
    return float(to_others.sort().values[impure])


def _cover(
    pool: Pool,
    size: int,
    seed: int,
    kernel_of: Callable[[Space], Kernel],
    *,
    scaled: bool,
    weights: Scores | None = None,
) -> tuple[Indices, Scores]:
    """Positions in the pool and gains of min(size, pool.size) picks.

    scaled: embeddings are brought to length 1. weights: (pool.size,) how much it is worth to cover each image.
    """
    embeddings, labeled = pool.require(Need.EMBEDDINGS), pool.require(Need.LABELED_EMBEDDINGS)
    size = min(size, pool.size)
    drawn = sample(pool, max(size, _SAMPLE), seed, weights)
    worth = np.ones(pool.size) if weights is None else _worth(weights, len(drawn))
    picks: Indices = drawn[:0]
    gains: Scores = np.empty(0)
    # They come in the order of a hash, so that any part is a sample, too.
    for start in range(0, len(drawn), _SAMPLE):
        if len(picks) == size:
            break
        part = drawn[start : start + _SAMPLE]
        centers = np.concatenate([labeled, embeddings[picks]])
        points = embeddings[part]
        space = Space(_unit(points) if scaled else points)
        cover = _Cover(
            pool, part, space, kernel_of(space), _unit(centers) if scaled else centers, worth[part]
        )
        more, their_gains = cover.picks(size - len(picks))
        picks, gains = np.append(picks, more), np.append(gains, their_gains)
    rest = drawn[~np.isin(drawn, picks)][: size - len(picks)]
    return np.append(picks, rest), np.append(gains, np.zeros(len(rest)))


def _worth(weights: Scores, size: int) -> Scores:
    """(n,) what each image of a sample of `size`, drawn in proportion to `weights`, counts: for those not drawn, too.

    It is the weight over the chance to be drawn (Horvitz & Thompson, 1952). The chance is in proportion to the weight,
    but no higher than 1.
    """
    if len(weights) <= size:
        return weights
    descending = np.sort(weights)[::-1]
    # The k heaviest are drawn for sure, and the others share the rest of the sample: the first k for which none
    # of these would have a chance above 1.
    left = np.cumsum(descending[::-1])[::-1][:size]
    factors = (size - np.arange(size)) / np.maximum(left, np.finfo(float).tiny)
    sure = factors * descending[:size] > 1
    factor = factors[int(np.argmin(sure))] if not sure.all() else factors[-1]
    worth: Scores = np.maximum(weights, 1 / factor)
    return worth


def _unit(rows: Floats) -> Floats:
    return normalize(torch.from_numpy(rows), dim=1).numpy()


class _Cover(LazyGreedy):
    """The similarity of each candidate to all of them, and how far each is covered."""

    def __init__(
        self,
        pool: Pool,
        candidates: Indices,
        space: Space,
        kernel: Kernel,
        centers: Floats,
        worth: Scores,
    ) -> None:
        super().__init__(pool, candidates, least=0)
        everything = space.rows(space.points)
        size = len(candidates)
        self.similarity = torch.empty(size, size, device=space.points.device)
        self.worth = torch.from_numpy(worth / max(worth.sum(), np.finfo(float).tiny)).to(self.similarity)
        self.covered = kernel(nearest_squares(space, centers)).float()
        self.gains = torch.empty_like(everything.norms)  # or more: they only shrink
        for start in range(0, size, _BLOCK):
            block = torch.arange(start, min(start + _BLOCK, size), device=space.points.device)
            self.similarity[block] = kernel(squared_distances(everything.at(block), everything)).float()
            self.score(block)

    def bounds(self) -> Tensor:
        return self.gains

    def score(self, places: Tensor) -> Tensor:
        for part in torch.split(places, _WIDTH):
            added = (self.similarity[part] - self.covered).clamp_(min=0)
            self.gains[part] = (added @ self.worth).double()
        return self.gains[places]

    def add(self, place: int) -> None:
        self.covered = torch.maximum(self.covered, self.similarity[place])
        self.gains[place] = -torch.inf
