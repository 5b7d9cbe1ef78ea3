"""k-means, seeded by k-means++; and the order in which its clusters are labeled."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from strategies.distances import BLOCK, Rows, Space, squared_distances
from strategies.pool import Indices, Scores

_STEPS = 10  # of Lloyd's algorithm: later ones move few points
_FIT = 10  # points a cluster, drawn at random, that the centres are fitted to
_SEED = 4  # and that the seeds are chosen from


class Clusters(NamedTuple):
    """labels: (n,) cluster of each point. squares: (n,) its squared distance to the centre of the cluster."""

    labels: Tensor
    squares: Tensor


def k_means(space: Space, clusters: int, seed: int, weights: Scores | None = None) -> Clusters:
    """Clusters from 0 to `clusters` - 1 of the points. One may be empty where points repeat.

    With `weights`, (n,) and not all 0, a point counts as that many. Seeds by greedy k-means++ (Arthur &
    Vassilvitskii, SODA 2007), then Lloyd's algorithm. Where there are many points, the centres are fitted to a
    sample of them, drawn with a chance proportional to the weights.
    """
    size = len(space.points)
    rng = np.random.default_rng(seed)
    mass = np.ones(size) if weights is None else weights
    drawn = rng.permutation(size)
    if size > (limit := max(BLOCK, _FIT * clusters)):
        drawn = rng.choice(size, limit, p=mass / mass.sum())
        mass = np.ones(size)
    rows = space.rows(space.points[torch.from_numpy(drawn).to(space.points.device)])
    centers = _lloyd(rows, torch.from_numpy(mass[drawn]).to(rows.norms), clusters, rng)
    labels = torch.empty(size, dtype=torch.int64, device=rows.norms.device)
    squares = torch.empty(size, dtype=torch.float64, device=rows.norms.device)
    for block, part in space.blocks():
        squares[block], labels[block] = squared_distances(part, centers).min(dim=1)
    return Clusters(labels, squares)


def _lloyd(rows: Rows, mass: Tensor, clusters: int, rng: np.random.Generator) -> Rows:
    few = slice(max(BLOCK // 2, _SEED * clusters))
    centers = _seeds(rows.at(few), mass[few], clusters, rng)
    for _ in range(_STEPS):
        nearest = squared_distances(rows, centers).argmin(dim=1)
        sums = torch.zeros_like(centers.values).index_add_(0, nearest, rows.values * mass[:, None])
        masses = torch.zeros_like(centers.norms).index_add_(0, nearest, mass)[:, None]
        values = torch.where(masses > 0, sums / masses.clamp(min=1e-300), centers.values)
        if torch.equal(values, centers.values):
            break
        centers = Rows(values, (values * values).sum(dim=1))
    return centers


def _seeds(rows: Rows, mass: Tensor, clusters: int, rng: np.random.Generator) -> Rows:
    """Seeds one by one, each the best of a few drawn with a chance proportional to mass × squared distance.

    The distance is to the seeds before it; the best is the one that leaves the least to all points.
    """
    trials = 2 + int(np.log(clusters))
    squares = torch.ones_like(rows.norms)  # before the first seed, all points are alike
    chosen: list[int] = []
    while len(chosen) < clusters:
        cumulated = (mass * squares).cumsum(dim=0)
        draws = torch.from_numpy(rng.random(trials)).to(mass) * cumulated[-1]
        places = torch.searchsorted(cumulated, draws, right=True).clamp_(max=len(mass) - 1)
        nearer = squared_distances(rows.at(places), rows)
        nearer[torch.arange(trials), places] = 0
        if chosen:
            nearer = torch.minimum(nearer, squares)
        best = int((nearer @ mass).argmin())
        squares = nearer[best]
        chosen.append(int(places[best]))
    return rows.at(torch.tensor(chosen, device=rows.norms.device))


class Turns(NamedTuple):
    """order: (free,) points not taken, in the order to label them; sizes: (clusters,) points in each cluster;
    covered: (clusters,) how many of them are taken."""

    order: Indices
    sizes: Indices
    covered: Indices


def in_turns(labels: Indices, taken: NDArray[np.bool_], worth: Scores, mass: Scores, least: int = 1) -> Turns:
    """One point of each cluster in turn: the cluster with fewest points taken, then with the greatest mass.

    labels, taken, worth and mass are (n,): cluster of each point, whether it is labeled or picked, how good a
    pick it is among those of its cluster, and what it adds to its cluster's mass. Clusters of fewer than `least`
    points come after all others.
    """
    sizes = np.bincount(labels)
    covered = np.bincount(labels[taken], minlength=len(sizes))
    heaviest = np.bincount(labels, weights=mass)
    free = np.flatnonzero(~taken)
    by_cluster = free[np.lexsort((-worth[free], labels[free]))]
    cluster = labels[by_cluster]
    turn = covered[cluster] + np.arange(len(cluster)) - np.searchsorted(cluster, cluster)
    order = np.lexsort((cluster, -heaviest[cluster], turn, sizes[cluster] < least))
    return Turns(by_cluster[order], sizes, covered)
