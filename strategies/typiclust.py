"""TypiClust: with few or no labels, the images that stand for most of the pool."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from strategies.clustering import in_turns, k_means
from strategies.distances import Space, squared_distances
from strategies.pool import Indices, Need, Pool, Scores
from strategies.protocol import Ranking, check_request
from strategies.sampling import sample

_NEIGHBOURS = 20  # as in the paper
_CLUSTERS = 500  # at most, as in the paper
_LEAST = 6  # points, as in the authors' code: what is in a smaller cluster is not typical
# Images of a larger pool: 40 for each of the most clusters, twice the neighbours that count. A tenth as many
# cost a learner of Fashion-MNIST one to two points of accuracy from 50 labels on.
_SAMPLE = 20_000
_PAIRS = 2**22  # distances computed at once
_NEAREST = 1e-5  # mean distance to the neighbours, at least: repeated images are not infinitely typical


@dataclass(frozen=True)
class TypiClust:
    """TypiClust: the most typical image of each large cluster without labels (Hacohen et al., ICML 2022).

    Labeled set and pool are clustered together, into as many clusters as there will be labels (at most 500).
    The clusters with fewest labels come first, the largest of them first, those of five images or fewer last; in
    each the image with the highest typicality: one over the mean distance to its 20 nearest neighbours in the
    cluster. That is the score.

    The paper clusters anew for each batch. Here a clustering serves as many picks as there were before it, so
    that a long ranking takes few. A uniform sample of 20,000 images stands for a larger pool: what is typical of
    the one is typical of the other.
    """

    name = "typiclust"
    needs = frozenset({Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS})

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """The first batch is TypiClust's, and each later one treats those before it as labeled."""
        check_request(size, batch_size)
        embeddings, labeled = pool.require(Need.EMBEDDINGS), pool.require(Need.LABELED_EMBEDDINGS)
        size = min(size, pool.size)
        candidates = sample(pool, max(size, _SAMPLE), seed)
        space = Space(np.concatenate([labeled, embeddings[candidates]]))
        taken = np.arange(len(space.points)) < len(labeled)  # labeled or picked
        picks: Indices = np.empty(0, dtype=np.int64)
        scores: Scores = np.empty(0)
        reasons: list[str] = []
        while len(picks) < size:
            step = max(batch_size, len(picks))
            clusters = min(len(labeled) + len(picks) + step, _CLUSTERS, len(space.points))
            step = min(step, size - len(picks)) if clusters < _CLUSTERS else size - len(picks)
            labels = k_means(space, clusters, seed).labels.cpu().numpy()
            typicality = _typicality(space, labels, taken)
            turns = in_turns(labels, taken, typicality, np.ones(len(labels)), _LEAST)
            best = turns.order[:step]
            reasons += [_reason(int(turns.sizes[c]), int(turns.covered[c])) for c in labels[best]]
            scores = np.append(scores, typicality[best])
            picks = np.append(picks, best)
            taken[best] = True
        return Ranking(candidates[picks - len(labeled)], scores, tuple(reasons))


def _typicality(space: Space, labels: Indices, taken: NDArray[np.bool_]) -> Scores:
    """(n,) typicality of each point that is not taken among those of its cluster; 0 for one that is alone."""
    typicality = np.zeros(len(labels))
    for cluster in np.unique(labels[~taken]):
        members = np.flatnonzero((labels == cluster) & ~taken)
        rows = space.rows(space.points[torch.from_numpy(members).to(space.points.device)])
        neighbours = min(_NEIGHBOURS, len(members) - 1)
        if neighbours == 0:
            continue
        width = max(1, _PAIRS // len(members))
        for start in range(0, len(members), width):
            block = slice(start, start + width)
            squares = squared_distances(rows.at(block), rows)
            # One more, because each is its own nearest, at distance 0.
            nearest = squares.topk(neighbours + 1, dim=1, largest=False).values.sqrt()
            mean = (nearest.sum(dim=1) / neighbours).clamp(min=_NEAREST)
            typicality[members[block]] = (1 / mean).cpu().numpy()
    return typicality


def _reason(images: int, covered: int) -> str:
    if images == 1:
        return "unlike any other image"
    return f"typical of a cluster of {images} images with {covered or 'none'} labeled or chosen"
