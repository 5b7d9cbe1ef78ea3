"""Diversity: the images least like everything labeled or chosen before."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
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
    exact as doubles are, however near images are to each other. For the few images that are valued for every pick,
    NumPy is quicker than handing the work to a GPU or to threads.
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
        self.centers_on_host = self.centers.values.cpu().numpy()
        # For each image a bound of the squared distance to its nearest centre, and how many centres that knows.
        self.squares = np.empty(pool.size)
        self.seen = np.full(pool.size, self.count)
        for block, rows in self.space.blocks():
            self.squares[block] = self._bound(rows, 0) if self.count else _numpy(4 * rows.norms)
        if not self.count:
            self.squares[:] = self.squares.max(initial=0)
        # The images whose values were asked for last, their rows, and how many centres their values know.
        self.asked: Indices | None = None
        self.rows: Scores = self.centers_on_host[:0]
        self.known = 0

    def values(self, indices: Indices | slice) -> Scores:
        """The same images are asked for again and again, and catch up with the last pick only."""
        assert isinstance(indices, np.ndarray)
        squares = self.squares[indices]
        if self.count and indices is not self.asked:
            rows = self.space.rows(self.space.points[self._on_device(indices)])
            self.asked, self.rows, self.known = indices, _numpy(rows.values), self.count
            squares = np.minimum(squares, self._exact(rows, 0))
        for center in self.centers_on_host[self.known : self.count]:
            squares = np.minimum(squares, _squared_lengths(self.rows - center))
        self.known = self.count
        self.squares[indices] = squares
        self.seen[indices] = self.count
        return np.sqrt(squares)

    def bounds(self, indices: Indices | slice) -> Scores:
        return np.sqrt(self.squares[indices])

    def tighten(self, indices: Indices) -> Scores:
        stale = indices[self.seen[indices] < self.count]
        stale = stale[np.argsort(self.seen[stale])]  # equally stale ones side by side
        bounds = [
            self._bound(rows, int(self.seen[stale[start * BLOCK]]))
            for start, (_, rows) in enumerate(self.space.blocks(self._on_device(stale)))
        ]
        if bounds:
            self.squares[stale] = np.minimum(self.squares[stale], np.concatenate(bounds))
            self.seen[stale] = self.count
        return self.bounds(indices)

    def add(self, index: int) -> None:
        center = self.space.rows(self.space.points[index : index + 1])
        self.centers.values[self.count] = center.values[0]
        self.centers.norms[self.count] = center.norms[0]
        self.centers_on_host[self.count] = _numpy(center.values[0])
        self.count += 1

    def reason(self, index: int) -> str:
        if not self.count:
            return "nothing labeled yet to be unlike"
        distance = self.squares[index] ** 0.5
        return f"unlike all that is labeled or chosen before it (distance {distance:.3g})"

    def most_central(self) -> int:
        """The image nearest the pool's mean."""
        # Rounded, because the last bits of a sum depend on the order of the pool.
        mean = self.space.rows(self.space.points.mean(dim=0, dtype=torch.float64).float()[None])
        closeness = np.empty(self.pool.size)
        for block, rows in self.space.blocks():
            closeness[block] = -_squared_lengths(_numpy(rows.values - mean.values))
        return int(highest(self.pool, closeness, 1)[0])

    def farthest(self) -> float:
        """The largest of all distances."""
        return float(self.tighten(np.arange(self.pool.size)).max())

    def _on_device(self, indices: Indices) -> Tensor:
        return torch.from_numpy(indices).to(self.space.points.device)

    def _nearest(self, rows: Rows, start: int) -> Tensor:
        """(k,) squared distances to the nearest of the centres from `start` on, but for rounding."""
        nearest = torch.full_like(rows.norms, torch.inf)
        for _, centers in self._blocks_of_centers(start):
            nearest = torch.minimum(nearest, squared_distances(rows, centers).amin(dim=1))
        return nearest

    def _bound(self, rows: Rows, start: int) -> Scores:
        """(k,) what no squared distance to the nearest of these centres exceeds; 0 for a repeated image."""
        nearest, rounding = self._nearest(rows, start), self._rounding(rows)
        bound = _numpy(nearest + rounding)
        doubtful = nearest <= rounding
        if doubtful.any():
            bound[_numpy(doubtful)] = self._exact(rows.at(doubtful), start)
        return bound

    def _exact(self, rows: Rows, start: int) -> Scores:
        """(k,) squared distances to the nearest of the centres from `start` on, by differences."""
        exact = np.full(len(rows.norms), np.inf)
        for first in range(0, len(exact), BLOCK):
            block = rows.at(slice(first, first + BLOCK))
            values = _numpy(block.values)
            doubt = self._nearest(block, start) + 2 * self._rounding(block)
            for place, centers in self._blocks_of_centers(start):
                near = squared_distances(block, centers) <= doubt[:, None]
                for pairs in torch.split(near.nonzero(), BLOCK):
                    which, center = _numpy(pairs).T
                    squares = _squared_lengths(values[which] - self.centers_on_host[place + center])
                    np.minimum.at(exact, first + which, squares)
        return exact

    def _blocks_of_centers(self, start: int) -> Iterator[tuple[int, Rows]]:
        for first in range(start, self.count, BLOCK):
            yield first, self.centers.at(slice(first, min(first + BLOCK, self.count)))

    def _rounding(self, rows: Rows) -> Tensor:
        return rows.norms * self.space.rounding(1)


def _numpy(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.cpu().numpy()
    return array


def _squared_lengths(rows: Scores) -> Scores:
    lengths: Scores = np.einsum("ij,ij->i", rows, rows)
    return lengths
