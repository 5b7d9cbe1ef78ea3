"""The nearest of some points to each of others, by blocks of both."""

import torch
from torch import Tensor

from strategies.distances import BLOCK, Rows, Space, on_device, squared_distances
from strategies.pool import Floats


def nearest(rows: Rows, space: Space, others: Floats) -> tuple[Tensor, Tensor]:
    """For each of the rows, (k,) the squared distance to the nearest of `others`, and (k,) which one it is.

    rows: of `space`. others: (m, dimensions). The distance is infinite, and -1 the nearest, where there are none; it is
    0 where it is no more than rounding.
    """
    squares = torch.full_like(rows.norms, torch.inf)
    which = torch.full_like(rows.norms, -1, dtype=torch.int64)
    for start in range(0, len(others), BLOCK):
        block = space.rows(on_device(others[start : start + BLOCK]))
        closest, places = squared_distances(rows, block).min(dim=1)
        closer = closest < squares
        squares[closer] = closest[closer]
        which[closer] = places[closer] + start
    squares[squares <= rows.norms * space.rounding(1)] = 0
    return squares, which


def nearest_squares(space: Space, others: Floats) -> Tensor:
    """(n,) squared distance of each point of the space to the nearest of `others`; infinite where there are none."""
    squares = torch.empty(len(space.points), dtype=torch.float64, device=space.points.device)
    for block, rows in space.blocks():
        squares[block] = nearest(rows, space, others)[0]
    return squares
