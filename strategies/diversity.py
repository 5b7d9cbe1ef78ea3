"""Diversity: the images least like everything labeled or chosen before."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from strategies.distances import BLOCK, Rows, Space, on_device, squared_distances
from strategies.ordering import fingerprints, highest
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

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """Any prefix of the ranking is spread out, so batches need no care of their own."""
        check_request(size, batch_size)
        indices, distances = FarthestFirst(pool, min(size, pool.size)).picks()
        reasons = [f"unlike all that is labeled or chosen before it (distance {d:.3g})" for d in distances]
        if reasons and not len(pool.require(Need.LABELED_EMBEDDINGS)):
            reasons[0] = "nearest the centre of the pool"
        return Ranking(indices, distances, tuple(reasons))


class FarthestFirst:
    """Farthest-first traversal (Gonzalez, 1985): the picks of comparing every image to every centre, lazily.

    Centres are what is labeled or picked. The distance of an image to its nearest centre only shrinks when
    centres are added, so a stale one is an upper bound. The *front*, the images with the highest bounds, is
    kept fresh. The others catch up with the new centres in one matrix product, when the front has fallen to
    their bounds. Distances that differ by no more than rounding are ties, broken by content.
    """

    def __init__(self, pool: Pool, size: int) -> None:
        self.pool = pool
        self.size = size
        self.space = Space(pool.require(Need.EMBEDDINGS))
        labeled = self.space.rows(on_device(pool.require(Need.LABELED_EMBEDDINGS)))
        self.count = len(labeled.norms)  # of centres
        room = labeled.values.new_empty(size, labeled.values.shape[1])
        self.centers = Rows(
            torch.cat([labeled.values, room]), torch.cat([labeled.norms, room.new_empty(size)])
        )
        # Squared distance of each image to its nearest centre, -inf once picked; how many centres it knows.
        self.bounds = room.new_full((pool.size,), torch.inf)
        self.seen = torch.zeros_like(self.bounds, dtype=torch.int64)
        # The front: positions, embeddings, fresh squared distances; and the highest bound outside it.
        self.front = self.seen[:0]
        self.rows = labeled.at(slice(0))
        self.distances = self.bounds[:0]
        self.limit = torch.inf

    def picks(self) -> tuple[Indices, Scores]:
        """Positions in the pool and distances to the nearest centre, in the order of the picks."""
        indices: list[int] = []
        squares: list[float] = []
        if self.size and self.count:
            self._measure(self.centers.at(slice(self.count)))
        elif self.size:
            indices.append(self._start())
            squares.append(max(0.0, float(self.bounds.max())))
        while len(indices) < self.size:
            best, tolerance = self._best()
            if best <= tolerance:  # all that is left repeats what is labeled or picked
                left = (self.bounds >= 0).double().cpu().numpy()
                rest = highest(self.pool, left, self.size - len(indices)).tolist()
                return np.array(indices + rest), np.sqrt(squares + [0.0] * len(rest))
            place = self._first_by_content(self.front, self.distances >= best - tolerance)
            indices.append(int(self.front[place]))
            squares.append(best)
            self._add_center(indices[-1], self.rows.at(slice(place, place + 1)))
        return np.array(indices, dtype=np.int64), np.sqrt(squares)

    def _start(self) -> int:
        """Makes the image nearest the mean the first centre."""
        # Rounded, because the last bits of a sum depend on the order of the pool.
        mean = self.space.points.mean(dim=0, dtype=torch.float64).float()
        self._measure(self.space.rows(mean[None]))
        everything = torch.arange(self.pool.size, device=self.front.device)
        nearest = float(self.bounds.min())
        first = self._first_by_content(everything, self.bounds <= nearest + self.space.rounding(nearest))
        center = self.space.rows(self.space.points[first : first + 1])
        self._measure(center)
        self._add_center(first, center)
        self.seen.fill_(1)
        return first

    def _measure(self, centers: Rows) -> None:
        """Sets all bounds to the squared distance to the nearest of these centres."""
        for block, rows in self.space.blocks():
            self.bounds[block] = squared_distances(rows, centers).amin(dim=1)
        self.seen.fill_(self.count)

    def _first_by_content(self, positions: Tensor, tied: Tensor) -> int:
        """The place in `positions`, among those `tied`, that comes first in whatever order the pool is."""
        places = tied.nonzero()[:, 0]
        if len(places) == 1:
            return int(places[0])
        indices = positions[places].cpu().numpy()
        return int(places[int(np.lexsort((indices, fingerprints(self.pool, indices)))[0])])

    def _add_center(self, index: int, center: Rows) -> None:
        self.centers.values[self.count] = center.values[0]
        self.centers.norms[self.count] = center.norms[0]
        self.count += 1
        torch.minimum(self.distances, squared_distances(self.rows, center)[:, 0], out=self.distances)
        self.distances[self.front == index] = -torch.inf
        self.bounds[index] = -torch.inf

    def _best(self) -> tuple[float, float]:
        """The largest squared distance of all and its rounding; the front then holds every image that has it."""
        width = BLOCK
        while True:
            if len(self.front):
                place = int(self.distances.argmax())
                best = float(self.distances[place])
                tolerance = self._rounding(place)
                if best - tolerance > self.limit or max(best, self.limit) <= tolerance:
                    return best, tolerance
            self._refill(width)
            width *= 2  # where many bounds are stale, more are refreshed at once

    def _rounding(self, place: int) -> float:
        return self.space.rounding(float(self.rows.norms[place] + self.distances[place]))

    def _refill(self, width: int) -> None:
        """Makes a front of the `width` images with the highest bounds, less those that fall below all others."""
        self.bounds[self.front] = self.distances
        self.seen[self.front] = self.count
        left = int((self.bounds >= 0).sum())
        highest_bounds, front = torch.topk(self.bounds, min(width, left))
        self.limit = float(highest_bounds[-1]) if width < left else -torch.inf
        front = front[torch.argsort(self.seen[front])]  # equally stale ones side by side
        kept: list[tuple[Tensor, Rows]] = []
        for part, rows in self.space.blocks(front):
            assert isinstance(part, Tensor)
            missed = self.centers.at(slice(int(self.seen[part[0]]), self.count))
            if len(missed.norms):
                nearest = squared_distances(rows, missed).amin(dim=1)
                self.bounds[part] = torch.minimum(self.bounds[part], nearest)
            high = self.bounds[part] >= self.limit
            kept.append((part[high], rows.at(high)))
        self.seen[front] = self.count
        self.front = torch.cat([part for part, _ in kept])
        self.rows = Rows(
            torch.cat([rows.values for _, rows in kept]), torch.cat([rows.norms for _, rows in kept])
        )
        self.distances = self.bounds[self.front]
        if len(self.front) > BLOCK:
            best, places = torch.topk(self.distances, BLOCK + 1)
            if best[0] - self._rounding(int(places[0])) > best[-1]:
                self.limit = float(best[-1])
                self.front, self.rows = self.front[places[:-1]], self.rows.at(places[:-1])
                self.distances = best[:-1].clone()
