"""A sample that stands for a large pool, the same in whatever order the pool is."""

import numpy as np

from strategies.ordering import by_content
from strategies.pool import Indices, Pool, Scores


def sample(pool: Pool, size: int, seed: int, weights: Scores | None = None) -> Indices:
    """Positions of min(size, pool.size) images, in an order that does not depend on the pool's.

    They are drawn without replacement, uniformly or with a chance proportional to `weights`: (pool.size,), none
    of them negative (Efraimidis & Spirakis, 2006: the highest of u^(1/weight), with u uniform).
    """
    order = by_content(pool)
    if pool.size <= size:
        return order
    keys = np.log(np.random.default_rng(seed).random(pool.size))
    if weights is not None:
        in_order = weights[order]
        keys = np.divide(keys, in_order, out=np.full(pool.size, -np.inf), where=in_order > 0)
    drawn = np.sort(np.argpartition(-keys, size)[:size])
    return order[drawn]
