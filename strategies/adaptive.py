"""Choosing a few images at a time, each time by a model that has seen what was chosen before."""

from collections.abc import Callable

import numpy as np

from strategies.ordering import highest
from strategies.pool import Indices, Pool, Scores

_MINI_BATCHES = 10  # a batch
_GROWTH = 4  # later ones are a quarter of what is chosen already: a long ranking takes few refits


def choose_adaptively(
    pool: Pool, size: int, batch_size: int, scores: Callable[[Indices], Scores]
) -> tuple[Indices, Scores]:
    """The min(size, n) images with the highest scores in mini-batches of a tenth of a batch, and their scores then.

    scores: from the positions chosen so far to (pool.size,) scores. It is called for each mini-batch, about ten
        times for the first batch and ten more each time that the ranking is ten times as long.
    """
    size = min(size, pool.size)
    picks: Indices = np.empty(0, dtype=np.int64)
    their_scores: Scores = np.empty(0)
    while len(picks) < size:
        step = max(1, batch_size // _MINI_BATCHES, len(picks) // _GROWTH)
        current = scores(picks)
        free = current.copy()
        free[picks] = -np.inf
        best = highest(pool, free, min(step, size - len(picks)))
        picks, their_scores = np.append(picks, best), np.append(their_scores, current[best])
    return picks, their_scores
