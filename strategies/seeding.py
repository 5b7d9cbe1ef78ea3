"""k-means++ seeding: each point drawn with a chance in proportion to its squared distance to those drawn before it."""

from collections.abc import Callable

import numpy as np

from strategies.distances import BLOCK
from strategies.pool import Indices, Scores

_CELL = 1024  # points whose bounds are summed up together: drawing touches one cell, not all points
_PROPOSALS = 16  # made at once
_PATIENCE = 4096  # proposals for one point, after which the bounds of all are refreshed

# (k,) and (m,) positions to the (k, m) squared distances between them, 0 where they are no more than rounding.
SquaredDistances = Callable[[Indices, Indices], Scores]


class Seeding:
    """D² sampling (Arthur & Vassilvitskii, SODA 2007), with the chances of a pass over all points for each draw.

    The distance of a point to the nearest one drawn only shrinks, so a stale one is an upper bound. A point is
    proposed by its bound, the bound is refreshed, and the proposal stands with a chance of fresh over stale: it
    is then drawn in proportion to its fresh distance (rejection sampling), and few distances are ever computed.

    points: (n,) the positions to draw from, in an order that does not depend on the pool's; the same position is
        drawn once.
    """

    def __init__(
        self, points: Indices, squared_distances: SquaredDistances, rng: np.random.Generator
    ) -> None:
        self.points = points
        self.squared_distances = squared_distances
        self.rng = rng
        self.drawn: list[int] = []  # places in `points`
        # Squared distance of each point to the nearest drawn, or more; and how many of the drawn that takes in.
        self.bounds = np.zeros((-(-len(points) // _CELL), _CELL))
        self.bounds.reshape(-1)[: len(points)] = np.inf
        self.seen = np.zeros(self.bounds.size, dtype=np.int64)
        self.sums = np.zeros(len(self.bounds))

    def start(self, place: int) -> None:
        """Takes the point at this place of `points` as the first."""
        self.drawn.append(place)
        self._refresh_all()
        self._set_bounds(np.array([place]), np.zeros(1))

    def draw(self) -> tuple[int, float] | None:
        """Position of the next point and its squared distance to those before it; None where all left repeat one."""
        proposed = 0
        while True:
            if proposed >= _PATIENCE:
                self._refresh_all()
                proposed = 0
            if not self.sums.any():
                return None
            places = self._propose()
            stale = self.bounds.reshape(-1)[places]
            fresh = self._refresh(places)
            stands = np.flatnonzero(self.rng.random(len(places)) * stale < fresh)
            if len(stands):
                place = int(places[stands[0]])
                self.drawn.append(place)
                self._set_bounds(places[stands[:1]], np.zeros(1))
                return int(self.points[place]), float(fresh[stands[0]])
            proposed += len(places)

    def left(self) -> Indices:
        """The positions that are not drawn yet, in the order of `points`."""
        return np.delete(self.points, self.drawn)

    def _propose(self) -> Indices:
        """Places drawn in proportion to their bounds: first the cell, then the place in it."""
        cumulative = np.cumsum(self.sums)
        cells = np.searchsorted(cumulative, self.rng.random(_PROPOSALS) * cumulative[-1], side="right")
        inside = np.cumsum(self.bounds[cells], axis=1)
        targets = self.rng.random(_PROPOSALS) * inside[:, -1]
        places: Indices = cells * _CELL + (inside <= targets[:, None]).sum(axis=1)
        return places

    def _refresh(self, places: Indices) -> Scores:
        """The squared distances of these points to the nearest drawn."""
        fresh = self.bounds.reshape(-1)[places]
        missed = self.drawn[self.seen[places].min() :]
        if missed:
            squares = self.squared_distances(self.points[places], self.points[missed])
            fresh = np.minimum(fresh, squares.min(axis=1))
            self._set_bounds(places, fresh)
        return fresh

    def _refresh_all(self) -> None:
        for start in range(0, len(self.points), BLOCK):
            self._refresh(np.arange(start, min(start + BLOCK, len(self.points))))

    def _set_bounds(self, places: Indices, values: Scores) -> None:
        self.bounds.reshape(-1)[places] = values
        self.seen[places] = len(self.drawn)
        cells = np.unique(places // _CELL)
        self.sums[cells] = self.bounds[cells].sum(axis=1)
