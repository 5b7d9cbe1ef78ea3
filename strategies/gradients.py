"""Expected model change: the images whose labels would move the learner's last layer most.

The gradient of the loss for a label y is (p − y) ⊗ h: the error of the probabilities times the features, here with a
1 for the bias. All that is asked of gradients is lengths and inner products, and of a product these are the products
of the factors'; the gradient itself, classes times features long, is never made. p is the committee's mean.

Several labels an image are as many independent yes/no questions, each with a logistic output of its own.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from strategies.distances import BLOCK, on_device
from strategies.ordering import by_content, highest
from strategies.pool import Floats, Indices, Need, Pool, Scores
from strategies.protocol import Ranking, check_request
from strategies.scored import ScoredStrategy
from strategies.seeding import Seeding
from strategies.uncertainty import between

_NEEDS = frozenset({Need.PROBABILITIES, Need.FEATURES})


@dataclass(frozen=True)
class ExpectedGradientLength(ScoredStrategy):
    """Length of the gradient, in expectation over what the label may be (Settles, Craven & Ray, NIPS 2007).

    |h| Σ p_y |p − e_y|, with e_y the vector that is 1 for class y. For several labels the mean over the classes of
    each one's own: |h| 2 p (1 − p).
    """

    name = "expected_gradient_length"
    needs = _NEEDS

    def scores(self, pool: Pool) -> Scores:
        features = pool.require(Need.FEATURES)
        scores = np.empty(pool.size)
        for start in range(0, pool.size, BLOCK):
            block = slice(start, start + BLOCK)
            p = np.clip(pool.probabilities[block], 0, 1)
            error = (2 * p * (1 - p)).mean(axis=1) if pool.multi_label else (p * _errors(p)).sum(axis=1)
            scores[block] = error * np.sqrt(_squared_lengths(features[block]))
        return scores

    def reason(self, pool: Pool, index: int) -> str:
        return f"its label would change the model much, whichever it is: {between(pool, index)}"


@dataclass(frozen=True)
class Badge:
    """BADGE: images whose gradients are long and point different ways (Ash et al., ICLR 2020).

    Each gradient is that of the label that the learner itself would give. The first image has the longest one; each
    next is drawn with a chance in proportion to the squared distance of its gradient to the nearest before it
    (k-means++). Scores are the length of the first and the distances of the others at their draw.
    """

    name = "badge"
    needs = _NEEDS

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """Every image is drawn with regard to all before it, so batches need no care of their own."""
        check_request(size, batch_size)
        gradients = _Gradients(pool)
        points = by_content(pool)
        seeding = Seeding(points, gradients.squared_distances, np.random.default_rng(seed))
        size = min(size, pool.size)
        picks: list[tuple[int, float]] = []
        if size:
            first = int(highest(pool, gradients.squared_lengths, 1)[0])
            seeding.start(int(np.flatnonzero(points == first)[0]))
            picks.append((first, float(gradients.squared_lengths[first])))
        while len(picks) < size:
            pick = seeding.draw()
            if pick is None:
                picks += [(int(i), 0.0) for i in seeding.left()[: size - len(picks)]]
            else:
                picks.append(pick)
        reasons = [_reason(pool, index, distance) for index, distance in picks]
        if reasons:
            reasons[0] = f"would change the model most: {between(pool, picks[0][0])}"
        return Ranking(
            np.array([index for index, _ in picks], dtype=np.int64),
            np.sqrt([square for _, square in picks]),
            tuple(reasons),
        )


def _reason(pool: Pool, index: int, distance: float) -> str:
    if distance == 0:
        return f"{between(pool, index)}; would change the model as an image chosen before it does"
    return f"{between(pool, index)}; would change the model otherwise than all chosen before it"


class _Gradients:
    """The pool's gradients for the labels that the learner would give, as their two factors."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        features = pool.require(Need.FEATURES)
        self.probabilities = pool.probabilities
        self.features = on_device(features)
        self.squared_lengths = np.empty(pool.size)
        for start in range(0, pool.size, BLOCK):
            block = slice(start, start + BLOCK)
            residuals = self._residuals(block)
            squares = (residuals * residuals).sum(axis=1)
            self.squared_lengths[block] = squares * _squared_lengths(features[block])
        # Of a computed squared distance, relative to the squared lengths.
        terms = features.shape[1] + self.probabilities.shape[1]
        self.rounding = 16 * np.finfo(np.float64).eps * np.sqrt(terms)

    def squared_distances(self, positions: Indices, others: Indices) -> Scores:
        """(len(positions), len(others)) squared distances between gradients, 0 where that is all but rounding."""
        inner = self._features(positions) @ self._features(others).T + 1
        inner *= self._residuals_on_device(positions) @ self._residuals_on_device(others).T
        sums = self.squared_lengths[positions][:, None] + self.squared_lengths[others]
        squares: Scores = sums - 2 * inner.cpu().numpy()
        squares[squares <= self.rounding * sums] = 0
        return squares

    def _features(self, positions: Indices) -> torch.Tensor:
        return self.features[torch.from_numpy(positions).to(self.features.device)].double()

    def _residuals_on_device(self, positions: Indices) -> torch.Tensor:
        return torch.from_numpy(self._residuals(positions)).to(self.features.device)

    def _residuals(self, positions: Indices | slice) -> Scores:
        """(k, classes) probabilities less the label that the learner would give."""
        p = self.probabilities[positions]
        if self.pool.multi_label:
            return p - (p >= 0.5)
        return p - _one_hot(p)


def _errors(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """(k, classes) distances of the probabilities to each class's unit vector."""
    squares = (p * p).sum(axis=1, keepdims=True) + 1 - 2 * p
    # That cancels for a class that is all but certain.
    certain = _one_hot(p)
    residuals = p - certain
    squares = np.where(certain, (residuals * residuals).sum(axis=1, keepdims=True), squares)
    errors: NDArray[np.float64] = np.sqrt(np.maximum(squares, 0))
    return errors


def _one_hot(p: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(k, classes) where the likeliest class is."""
    likeliest: NDArray[np.bool_] = p.argmax(axis=1)[:, None] == np.arange(p.shape[1])
    return likeliest


def _squared_lengths(features: Floats) -> Scores:
    """(k,) squared lengths of the rows with a 1 appended."""
    wide = features.astype(np.float64)
    squares: Scores = (wide * wide).sum(axis=1) + 1
    return squares
