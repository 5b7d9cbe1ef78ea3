"""From scores to an order that does not depend on how the pool happens to be sorted.

Images with the same score are ordered by a hash of their content, all that the pool knows of them. So a
shuffled pool gives the same images in the same order; only images that are alike in everything go by index.
"""

from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from strategies.pool import Floats, Indices, Pool, Scores

_BLOCK = 8192
_ODD = np.uint64(0x9E3779B97F4A7C15)  # any odd number


def highest(pool: Pool, scores: Scores, size: int) -> Indices:
    """The min(size, n) positions with the highest scores, best first, ties by content."""
    size = min(size, len(scores))
    if size == 0:
        return np.empty(0, dtype=np.int64)
    # All that tie with the last place are candidates for it.
    last = np.partition(scores, len(scores) - size)[len(scores) - size]
    candidates = np.flatnonzero(scores >= last)
    order = candidates[np.argsort(-scores[candidates], kind="stable")]
    tied = scores[order[1:]] == scores[order[:-1]]
    if tied.any():
        in_tie = np.append(tied, False) | np.insert(tied, 0, False)
        keys = np.zeros(len(order), dtype=np.uint64)
        keys[in_tie] = fingerprints(pool, order[in_tie])
        order = order[np.lexsort((keys, -scores[order]))]
    return order[:size]


def fingerprints(pool: Pool, indices: Indices) -> NDArray[np.uint64]:
    """A hash of the content of each image at `indices`, the same in every process and on every machine."""
    hashes = np.zeros(len(indices), dtype=np.uint64)
    rows = pool.features if pool.embeddings is None else pool.embeddings
    if rows is not None:
        hashes += _hash_rows(rows, indices)
    for member in pool.committee if pool.committee is not None else ():
        hashes *= _ODD  # the order of the members counts
        hashes += _hash_rows(member, indices)
    for name in sorted(pool.groups):
        values, inverse = np.unique(pool.group(name)[indices], return_inverse=True)
        hashes *= _ODD
        hashes += np.array([crc32(value.encode()) for value in values], dtype=np.uint64)[inverse]
    if pool.units is not None:
        positions, counts = pool.units.of(indices)
        hashes *= _ODD
        of_units = fingerprints(pool.units.pool, positions) * _ODD  # so that units without content count, too
        np.add.at(hashes, np.repeat(np.arange(len(indices)), counts), of_units + _ODD)
    return hashes


def by_content(pool: Pool) -> Indices:
    """(pool.size,) all positions in an order that does not depend on the pool's: where randomness is dealt out."""
    return highest(pool, np.zeros(pool.size), pool.size)


def _hash_rows(rows: Floats, indices: Indices) -> NDArray[np.uint64]:
    """Multilinear hash of the rows' bits modulo 2^64 (Lemire & Kaser, 2014)."""
    weights = np.random.default_rng(0).integers(2**64, size=rows.shape[1], dtype=np.uint64) | np.uint64(1)
    hashes = np.empty(len(indices), dtype=np.uint64)
    for start in range(0, len(indices), _BLOCK):
        block = rows[indices[start : start + _BLOCK]] + np.float32(0)  # -0.0 equals 0.0
        hashes[start : start + _BLOCK] = block.view(np.uint32).astype(np.uint64) @ weights
    return hashes
