"""Diversity: the images least like everything labeled or chosen before."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from strategies.distances import BLOCK, Rows, Space, on_device, squared_distances
from strategies.greedy import Greedy
from strategies.objective import Factor
from strategies.ordering import highest
from strategies.pool import Indices, Need, Pool, Scores
from strategies.protocol import Ranking, check_request


@dataclass(frozen=True)
class KCenterGreedy:
    """Core-set selection: the image farthest from its nearest labeled or chosen one (Sener & Savarese, 2018).

    Scores are those distances, and never rise. With nothing labeled the first pick is the image nearest the
    pool's mean, and its score the distance from it to the farthest image.
    """

    name = "k_center_greedy"
    needs = frozenset({Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS})

    def factor(self, pool: Pool, size: int) -> "NearestCenter":
        """The distance to the nearest labeled or picked image."""
        return NearestCenter(pool, size)

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """Any prefix of the ranking is spread out, so batches need no care of their own."""
        check_request(size, batch_size)
        size = min(size, pool.size)
        distance = self.factor(pool, size)
        greedy = Greedy(pool, [distance], [1.0])
        if distance.count or not size:
            picks = greedy.picks(size)
            return Ranking(picks.indices, picks.values[:, 0], picks.reasons)
        first = distance.most_central()
        greedy.take(first)
        radius = distance.farthest()
        picks = greedy.picks(size - 1)
        return Ranking(
            np.append(first, picks.indices),
            np.append(radius, picks.values[:, 0]),
            ("nearest the centre of the pool", *picks.reasons),
        )


class NearestCenter(Factor):
    """The distance of each image to its nearest centre: what is labeled or picked.

    While there is none, all images have the same distance, which no later one exceeds. Bounds catch up with the
    centres that they miss in matrix products, and allow for rounding. Values are of differences, not of products: as
    exact as doubles are, however near images are to each other.
    """

    def __init__(self, pool: Pool, size: int) -> None:
        self.pool = pool
        self.space = Space(pool.require(Need.EMBEDDINGS))
        labeled = self.space.rows(on_device(pool.require(Need.LABELED_EMBEDDINGS)))
        self.count = len(labeled.norms)  # of centres
        room = labeled.values.new_empty(size, labeled.values.shape[1])
        self.centers = Rows(
            torch.cat([labeled.values, room]), torch.cat([labeled.norms, room.new_empty(size)])
        )
        # For each image a bound of the squared distance to its nearest centre, and how many centres that knows.
        self.squares = room.new_empty(pool.size)
        self.seen = torch.full_like(self.squares, self.count, dtype=torch.int64)
        for block, rows in self.space.blocks():
            self.squares[block] = self._bound(rows, 0) if self.count else 4 * rows.norms
        if not self.count and pool.size:
            self.squares[:] = self.squares.max()
        # The images whose values were asked for last, and their rows.
        self.asked: Indices | None = None
        self.rows = labeled.at(slice(0))

    def values(self, indices: Indices | slice) -> Scores:
        """The same images are asked for again and again, and catch up with the last pick only."""
        assert isinstance(indices, np.ndarray)
        positions = self._positions(indices)
        squares = self.squares[positions]
        if self.count and indices is not self.asked:
            self.asked, self.rows = indices, self.space.rows(self.space.points[positions])
            squares = torch.minimum(squares, self._exact(self.rows))
        elif self.count:
            for center in self.centers.values[int(self.seen[positions[:1]]) : self.count]:
                squares = torch.minimum(squares, (self.rows.values - center).square_().sum(dim=1))
        self.squares[positions] = squares
        self.seen[positions] = self.count
        return _distances(squares)

    def bounds(self, indices: Indices | slice) -> Scores:
        return _distances(self.squares[indices if isinstance(indices, slice) else self._positions(indices)])

    def tighten(self, indices: Indices) -> Scores:
        positions = self._positions(indices)
        stale = positions[self.seen[positions] < self.count]
        stale = stale[torch.argsort(self.seen[stale])]  # equally stale ones side by side
        for part, rows in self.space.blocks(stale):
            bound = self._bound(rows, int(self.seen[part][0]))
            self.squares[part] = torch.minimum(self.squares[part], bound)
        self.seen[stale] = self.count
        return _distances(self.squares[positions])

    def add(self, index: int) -> None:
        center = self.space.rows(self.space.points[index : index + 1])
        self.centers.values[self.count] = center.values[0]
        self.centers.norms[self.count] = center.norms[0]
        self.count += 1

    def reason(self, index: int) -> str:
        if not self.count:
            return "nothing labeled yet to be unlike"
        distance = float(self.squares[index]) ** 0.5
        return f"unlike all that is labeled or chosen before it (distance {distance:.3g})"

    def most_central(self) -> int:
        """The image nearest the pool's mean."""
        # Rounded, because the last bits of a sum depend on the order of the pool.
        mean = self.space.rows(self.space.points.mean(dim=0, dtype=torch.float64).float()[None])
        closeness = np.empty(self.pool.size)
        for block, rows in self.space.blocks():
            closeness[block] = -(rows.values - mean.values).square_().sum(dim=1).cpu().numpy()
        return int(highest(self.pool, closeness, 1)[0])

    def farthest(self) -> float:
        """The largest of all distances."""
        return float(self.tighten(np.arange(self.pool.size)).max())

    def _positions(self, indices: Indices) -> Tensor:
        return torch.from_numpy(indices).to(self.squares.device)

    def _nearest(self, rows: Rows, start: int) -> Tensor:
        """(k,) squared distances to the nearest of the centres from `start` on, but for rounding."""
        nearest = torch.full_like(rows.norms, torch.inf)
        for centers in self._blocks_of_centers(start):
            nearest = torch.minimum(nearest, squared_distances(rows, centers).amin(dim=1))
        return nearest

    def _bound(self, rows: Rows, start: int) -> Tensor:
        """(k,) what no squared distance to the nearest of these centres exceeds; 0 for a repeated image."""
        nearest, rounding = self._nearest(rows, start), self._rounding(rows)
        bound = nearest + rounding
        doubtful = nearest <= rounding
        if doubtful.any():
            bound[doubtful] = self._exact(rows.at(doubtful), start)
        return bound

    def _exact(self, rows: Rows, start: int = 0) -> Tensor:
        """(k,) squared distances to the nearest of the centres from `start` on, by differences."""
        exact = torch.full_like(rows.norms, torch.inf)
        for first in range(0, len(rows.norms), BLOCK):
            block = rows.at(slice(first, first + BLOCK))
            doubt = self._nearest(block, start) + 2 * self._rounding(block)
            for centers in self._blocks_of_centers(start):
                near = squared_distances(block, centers) <= doubt[:, None]
                for pairs in torch.split(near.nonzero(), BLOCK):
                    which, center = pairs.unbind(dim=1)
                    squares = (block.values[which] - centers.values[center]).square_().sum(dim=1)
                    exact.scatter_reduce_(0, which + first, squares, "amin")
        return exact

    def _blocks_of_centers(self, start: int) -> Iterator[Rows]:
        for first in range(start, self.count, BLOCK):
            yield self.centers.at(slice(first, min(first + BLOCK, self.count)))

    def _rounding(self, rows: Rows) -> Tensor:
        return rows.norms * self.space.rounding(1)


def _distances(squares: Tensor) -> Scores:
    distances: Scores = squares.sqrt().cpu().numpy()
    return distances
