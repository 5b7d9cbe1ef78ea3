"""k-means, seeded by k-means++."""

import numpy as np
import torch
from torch import Tensor

from strategies.distances import BLOCK, Rows, Space, squared_distances

_STEPS = 10  # of Lloyd's algorithm: later ones move few points
_FIT = 10  # points a cluster, drawn at random, that the centres are fitted to
_SEED = 4  # and that the seeds are chosen from


def k_means(space: Space, clusters: int, seed: int) -> Tensor:
    """(n,) cluster of each point, from 0 to `clusters` - 1. A cluster may be empty where points repeat.

    Seeds by k-means++ (Arthur & Vassilvitskii, SODA 2007), then Lloyd's algorithm. On many points the centres are
    fitted to a random sample of them.
    """
    size = len(space.points)
    rng = np.random.default_rng(seed)
    sample = torch.from_numpy(rng.permutation(size)[: max(BLOCK, _FIT * clusters)])
    rows = space.rows(space.points[sample.to(space.points.device)])
    centers = _seeds(rows.at(slice(max(BLOCK // 2, _SEED * clusters))), clusters, rng)
    for _ in range(_STEPS):
        nearest = _nearest(rows, centers)
        sums = torch.zeros_like(centers.values).index_add_(0, nearest, rows.values)
        counts = torch.bincount(nearest, minlength=clusters)[:, None]
        values = torch.where(counts > 0, sums / counts.clamp(min=1), centers.values)
        if torch.equal(values, centers.values):
            break
        centers = Rows(values, (values * values).sum(dim=1))
    labels = torch.empty(size, dtype=torch.int64, device=space.points.device)
    for block, part in space.blocks():
        labels[block] = _nearest(part, centers)
    return labels


def _nearest(rows: Rows, centers: Rows) -> Tensor:
    return squared_distances(rows, centers).argmin(dim=1)


def _seeds(rows: Rows, clusters: int, rng: np.random.Generator) -> Rows:
    """Each seed is drawn with a chance proportional to its squared distance to the seeds before it."""
    chosen = [int(rng.integers(len(rows.norms)))]
    distances = torch.full_like(rows.norms, torch.inf)
    while len(chosen) < clusters:
        latest = rows.at(slice(chosen[-1], chosen[-1] + 1))
        distances = torch.minimum(distances, squared_distances(rows, latest)[:, 0])
        distances[chosen[-1]] = 0
        mass = distances.cumsum(dim=0)
        place = int(torch.searchsorted(mass, rng.random() * mass[-1], right=True))
        chosen.append(min(place, len(mass) - 1))
    return rows.at(torch.tensor(chosen, device=rows.norms.device))
