"""Greedy selection by a product of objectives: the picks of valuing every image anew for every pick, lazily.

Factors only fall as images are picked, so a stale product is an upper bound (lazy greedy; Minoux, 1978). The *front*,
the images with the highest bounds, is kept up to date. When it has fallen to the bounds of the others, the highest of
these are brought up to date, many at once, and make a new front.

What differs by less than one part in 10^10 is a tie, broken by content.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from strategies.objective import Factor
from strategies.ordering import fingerprints
from strategies.pool import Indices, Pool, Scores

_STEP = 1024  # images that are brought up to date at once, at least
_FRONT = 256  # images that make a front; up to twice as many are kept, each at a cost for every pick
_REACH = 2**16  # images sorted in search of a front
_TIE = 1e-10
_ZERO = -1000.0  # stands for the logarithm of 0; no double above 0 has one below -745


class Picks(NamedTuple):
    """indices: (k,) positions in the pool; values: (k, factors) when each was picked; reasons: (k,) of all factors."""

    indices: Indices
    values: Scores
    reasons: tuple[str, ...]


class Greedy:
    """Picks, one after the other, the image with the largest product of its factors to the power of their strengths.

    An image with a factor of 0 comes after all that have fewer such, and among those the other factors decide.
    """

    def __init__(self, pool: Pool, factors: Sequence[Factor], strengths: Sequence[float]) -> None:
        self.pool = pool
        self.factors = factors
        self.strengths = np.array(strengths) / sum(strengths)
        self.free = np.ones(pool.size, dtype=bool)
        self.content = np.zeros(pool.size)  # breaks ties: taken off the logarithms, 0 where not known yet
        self.front: Indices = np.empty(0, dtype=np.int64)
        self.limit = np.inf  # no image outside the front was worth more when the front was made

    def picks(self, size: int) -> Picks:
        """The next `size` picks; there must be as many images left."""
        indices = np.empty(size, dtype=np.int64)
        values = np.empty((size, len(self.factors)))
        reasons = []
        for turn in range(size):
            place, values[turn] = self._best()
            indices[turn] = index = int(self.front[place])
            reasons.append("; ".join(factor.reason(index) for factor in self.factors))
            self.take(index)
        return Picks(indices, values, tuple(reasons))

    def take(self, index: int) -> None:
        """Makes the image at `index` a pick."""
        self.free[index] = False
        for factor in self.factors:
            factor.add(index)

    def _best(self) -> tuple[int, Scores]:
        """Where in the front the best image of all is, and its factors."""
        reach = _REACH
        while True:
            if len(self.front):
                values = [factor.values(self.front) for factor in self.factors]
                worth = self._worth(values, self.front)
                if (best := worth.max()) > self.limit + self._fading():
                    place = self._first(np.flatnonzero(worth == best))
                    return place, np.array([value[place] for value in values])
            self._refill(reach)
            reach *= 4

    def _fading(self) -> float:
        """The logarithm of what all products have fallen to at least since the front was made."""
        return float(self.strengths @ np.log([factor.fading() for factor in self.factors]))

    def _worth(self, values: list[Scores], indices: Indices | slice) -> Scores:
        """(k,) logarithms of the products of these factors, -inf for what is picked."""
        worth = -self.content[indices]
        for strength, value in zip(self.strengths, values, strict=True):
            with np.errstate(divide="ignore"):
                logarithm = np.log(value)
            logarithm *= strength
            worth += np.maximum(logarithm, _ZERO, out=logarithm)
        worth[~self.free[indices]] = -np.inf
        return worth

    def _refill(self, reach: int) -> None:
        """Makes a front of images with the highest bounds, of which as many are tightened as that takes."""
        everything = slice(None)
        bounds = self._worth([factor.bounds(everything) for factor in self.factors], everything)
        left = int(self.free.sum())
        order = _highest(bounds, min(reach, left))
        fresh = bounds[order]
        after = np.append(fresh[1:], fresh[-1] if reach < left else -np.inf)
        done = 0
        above: NDArray[np.bool_] = np.zeros(0, dtype=bool)
        while done < len(order) and above.sum() < _FRONT:
            part = order[done : done + max(_STEP, done // 4)]
            self._read(part)
            fresh[done : done + len(part)] = self._worth([f.tighten(part) for f in self.factors], part)
            done += len(part)
            self.limit = float(after[done - 1])
            above = fresh[:done] > self.limit
        self.front, worth = order[:done][above], fresh[:done][above]
        if len(worth) > 2 * _FRONT:
            kept = worth > (limit := float(np.partition(worth, -2 * _FRONT)[-2 * _FRONT]))
            if kept.any():  # and not all worth the very same
                self.front, self.limit = self.front[kept], limit

    def _read(self, indices: Indices) -> None:
        """Makes the content of these images count."""
        new = indices[self.content[indices] == 0]
        self.content[new] = _TIE * (fingerprints(self.pool, new) / 2.0**64 + 1e-9)

    def _first(self, places: Indices) -> int:
        """Which of the front's images that are worth the very same comes first."""
        if len(places) == 1:
            return int(places[0])
        indices = self.front[places]
        return int(places[np.lexsort((indices, fingerprints(self.pool, indices)))[0]])


def _highest(bounds: Scores, count: int) -> Indices:
    """The positions of the `count` highest bounds, highest first."""
    top = np.arange(len(bounds)) if count == len(bounds) else np.argpartition(-bounds, count)[:count]
    order: Indices = top[np.argsort(-bounds[top], kind="stable")]
    return order
