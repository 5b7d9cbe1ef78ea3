"""Faces in an open set: who is hardly recognised, who is unlike all that are known, and who of these are alike.

The same works for anything else that is told apart by its likeness to known individuals: animals, goods, signatures.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strategies.distances import BLOCK, Space, on_device
from strategies.nearest import nearest
from strategies.ordering import highest
from strategies.pool import Floats, Indices, Need, Pool, Scores
from strategies.protocol import Ranking, check_request
from strategies.sampling import sample
from strategies.scored import ScoredStrategy

_SAMPLE = 2000  # unknown faces that clusters are formed of: 32 MB of distances, and less than a second


@dataclass(frozen=True)
class VerificationThreshold(ScoredStrategy):
    """How near the similarity to the likest identity is to the threshold of verification.

    For the yes/no question whether an image shows somebody known this is uncertainty sampling: the nearest to the
    border between the two answers first (Tong & Koller, JMLR 2001: simple margin). One minus half the difference.
    """

    name = "verification_threshold"
    needs = frozenset({Need.VERIFICATION})

    def scores(self, pool: Pool) -> Scores:
        return 1 - np.abs(_best(pool) - pool.require_verification().threshold) / 2

    def reason(self, pool: Pool, index: int) -> str:
        threshold = pool.require_verification().threshold
        return f"{_likest(pool, index)}; from {threshold:.2f} on it is taken for the same"


@dataclass(frozen=True)
class Novelty(ScoredStrategy):
    """Least similar to any known identity (Bendale & Boult, CVPR 2015: open-world recognition by nearest means).

    One minus the cosine between the image and the likest identity's centre. Images of low quality are novel, too.
    """

    name = "novelty"
    needs = frozenset({Need.VERIFICATION})

    def scores(self, pool: Pool) -> Scores:
        return 1 - _best(pool)

    def reason(self, pool: Pool, index: int) -> str:
        return f"unlike all that are known; {_likest(pool, index)}"


@dataclass(frozen=True)
class UnknownClusters:
    """Clusters of images that are nobody known, the largest first, so that one name labels many.

    What is taken for unknown, because it is below the threshold to all known identities, is clustered by complete
    linkage (Defays, 1977) of the cosine of `features`: every two images of a cluster pass the threshold. Whole clusters
    come one after the other, in each the image likest its mean first; their score is the number of images. All else
    comes after them, as by `verification_threshold`.

    With 15 portraits labeled, average linkage made larger clusters of others, but a quarter of each was of other people
    than the most; here, it is one in twelve. With 60, hardly any.

    Where more images are unknown, clusters are formed of a uniform sample of 2,000, and the others go to the cluster to
    whose mean they are likest, if that is above the threshold.
    """

    name = "unknown_clusters"
    needs = frozenset({Need.VERIFICATION, Need.FEATURES})

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """The clusters are those of the pool as it is now: a name given in one batch is learnt before the next."""
        check_request(size, batch_size)
        threshold = pool.require_verification().threshold
        unknown = _best(pool) < threshold
        size = min(size, pool.size)
        members, sizes = _clusters(pool, unknown, threshold, seed)
        members, sizes = members[:size], sizes[:size]
        others = VerificationThreshold()
        closeness = others.scores(pool)
        outside = closeness.copy()
        outside[members] = -np.inf
        rest = highest(pool, outside, size - len(members))
        return Ranking(
            np.concatenate([members, rest]),
            np.concatenate([sizes.astype(np.float64), closeness[rest]]),
            (
                *(f"one of {images} that look alike and are nobody known" for images in sizes),
                *(others.reason(pool, int(index)) for index in rest),
            ),
        )


def _best(pool: Pool) -> Scores:
    """(size,) similarity to the likest identity; -1 where nobody is known."""
    best: Scores = pool.require_verification().similarities.max(axis=1, initial=-1).astype(np.float64)
    return best


def _likest(pool: Pool, index: int) -> str:
    """Who that is, in words."""
    similarities = pool.require_verification().similarities[index]
    if not len(similarities):
        return "nobody is known yet"
    likest = int(similarities.argmax())
    return f"likest {pool.class_name(likest)}, with a similarity of {similarities[likest]:.2f}"


def _clusters(pool: Pool, unknown: NDArray[np.bool_], threshold: float, seed: int) -> tuple[Indices, Indices]:
    """Positions of the unknown images that are in clusters of two or more, as they are to be labeled; and, for each of
    them, how many are in its cluster."""
    drawn = sample(pool, _SAMPLE, seed, unknown.astype(np.float64))
    drawn = drawn[unknown[drawn]]
    features = pool.require(Need.FEATURES)
    rows = _of_length_one(features[drawn])
    labels = _complete_linkage(rows, threshold)
    kept, labels = np.unique(labels, return_inverse=True)
    if not len(kept):
        return drawn[:0], drawn[:0]
    sums = np.zeros((len(kept), rows.shape[1]), dtype=np.float32)
    np.add.at(sums, labels, rows)
    means = _of_length_one(sums)
    likeness = (rows * means[labels]).sum(axis=1)

    others = np.setdiff1d(np.flatnonzero(unknown), drawn)
    clustered = np.bincount(labels) > 1
    if len(others) and clustered.any():
        of_others, likeness_of_others = _nearest(features, others, means[clustered])
        near = likeness_of_others >= threshold
        drawn = np.concatenate([drawn, others[near]])
        labels = np.concatenate([labels, np.flatnonzero(clustered)[of_others[near]]])
        likeness = np.concatenate([likeness, likeness_of_others[near]])

    counts = np.bincount(labels)
    order = np.lexsort((-likeness, labels, -counts[labels]))  # stable: what ties stays in order of content
    order = order[counts[labels[order]] > 1]
    return drawn[order], counts[labels[order]]


def _complete_linkage(rows: Floats, threshold: float) -> Indices:
    """(n,) cluster of each of the rows, of length 1; it has the number of its first row."""
    if len(rows) < 2:
        return np.arange(len(rows))
    from scipy.cluster.hierarchy import fcluster, linkage  # half a second, which few processes need
    from scipy.spatial.distance import squareform

    distances = np.clip(1 - rows @ rows.T, 0, None)
    np.fill_diagonal(distances, 0)
    clusters = fcluster(
        linkage(squareform(distances, checks=False), "complete"), 1 - threshold, criterion="distance"
    )
    _, first, inverse = np.unique(clusters, return_index=True, return_inverse=True)
    numbered: Indices = first[inverse]
    return numbered


def _nearest(features: Floats, positions: Indices, means: Floats) -> tuple[Indices, Scores]:
    """For each of the images at `positions`, the likest of `means` and the cosine with it."""
    space = Space(means)
    which = np.empty(len(positions), dtype=np.int64)
    likeness = np.empty(len(positions))
    for start in range(0, len(positions), BLOCK):
        block = slice(start, start + BLOCK)
        rows = space.rows(on_device(_of_length_one(features[positions[block]])))
        squares, likest = nearest(rows, space, means)
        which[block], likeness[block] = likest.cpu().numpy(), 1 - squares.cpu().numpy() / 2
    return which, likeness


def _of_length_one(rows: Floats) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    normalised: Floats = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return normalised
