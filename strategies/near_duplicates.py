"""Near-duplicates out of the way of any strategy."""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from strategies.distances import Space, squared_distances
from strategies.nearest import nearest
from strategies.pool import Floats, Indices, Need, Pool
from strategies.protocol import Ranking, Strategy, check_request
from strategies.sampling import sample

# Of copies cut and lit a little otherwise, 13 % (Fashion-MNIST), 32 % (digits), 52 % (faces), 93 % (blood cells) and
# 99 % (street scenes) are within this share of the median distance of their originals, by the embedding learnt from
# the pool. Of different images, not one in a hundred is so near another; of faces 7, of frames of a street 5.
_SHARE = 0.25
_SAMPLE = 1000  # images whose distances to each other are typical of the pool
_BLOCK = 256  # images looked at one by one, after a matrix product that clears away what is near earlier ones


@dataclass(frozen=True)
class WithoutNearDuplicates:
    """The ranking of another strategy, less the images within `distance` of a labeled or already picked one.

    These come last, in the strategy's order, so that no image is lost. Scores and reasons are the strategy's.

    Unless given, the distance is a quarter of the median distance between two images of the pool: a measure that
    near-duplicates hardly change, however many there are, unlike the distance to the nearest other image.

    Raises ValueError for a distance that is negative or not finite.
    """

    strategy: Strategy
    distance: float | None = None
    needs: frozenset[Need] = field(init=False, repr=False)

    name = "without_near_duplicates"

    def __post_init__(self) -> None:
        if self.distance is not None and not (np.isfinite(self.distance) and self.distance >= 0):
            raise ValueError(
                f"distance is {self.distance}; near-duplicates are within 0 or more of each other."
            )
        needs = self.strategy.needs | {Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS}
        object.__setattr__(self, "needs", needs)

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """Asks for twice as many images as are wanted, and for more where near-duplicates leave too few."""
        check_request(size, batch_size)
        embeddings, labeled = pool.require(Need.EMBEDDINGS), pool.require(Need.LABELED_EMBEDDINGS)
        size = min(size, pool.size)
        distance = _typical_distance(pool, seed) * _SHARE if self.distance is None else self.distance
        wanted = min(2 * size, pool.size)
        while True:
            ranking = self.strategy.rank(pool, wanted, batch_size=batch_size, seed=seed)
            kept = _apart(embeddings, labeled, ranking.indices, distance, size)
            if len(kept) == size or wanted == pool.size:
                break
            wanted = min(4 * wanted, pool.size)
        rest = np.delete(np.arange(len(ranking)), kept)
        places = np.append(kept, rest)[:size]
        return Ranking(
            ranking.indices[places], ranking.scores[places], tuple(ranking.reasons[p] for p in places)
        )


def _typical_distance(pool: Pool, seed: int) -> float:
    """The median distance between two images, of a sample; 0 where there are not two."""
    points = pool.require(Need.EMBEDDINGS)[sample(pool, _SAMPLE, seed)]
    if len(points) < 2:
        return 0.0
    space = Space(points)
    rows = space.rows(space.points)
    pairs = torch.triu_indices(len(points), len(points), offset=1)
    squares = squared_distances(rows, rows).cpu()[pairs[0], pairs[1]]
    return float(squares.sqrt().median())


def _apart(embeddings: Floats, labeled: Floats, ranked: Indices, distance: float, size: int) -> Indices:
    """The first `size` places in the ranking that are farther than `distance` from all labeled and from each other."""
    kept: Indices = np.empty(0, dtype=np.int64)
    for start in range(0, len(ranked), _BLOCK):
        if len(kept) >= size:
            break
        places = np.arange(start, min(start + _BLOCK, len(ranked)))
        space = Space(embeddings[ranked[places]])
        rows = space.rows(space.points)
        within = distance**2 + rows.norms * space.rounding(1)
        far = torch.ones_like(within, dtype=torch.bool)
        for earlier in (labeled, embeddings[ranked[kept]]):
            far &= nearest(rows, space, earlier)[0] > within
        near = squared_distances(rows, rows) <= within
        kept = np.append(kept, places[_one_of_each(near.cpu().numpy(), far.cpu().numpy())])
    return kept[:size]


def _one_of_each(near: NDArray[np.bool_], candidates: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which candidates to keep, in order: those that are not near one kept before them."""
    kept = np.zeros(len(near), dtype=bool)
    for place in np.flatnonzero(candidates):
        kept[place] = not near[place, kept].any()
    return kept
