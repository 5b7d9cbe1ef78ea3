"""Strategies made of strategies."""

from dataclasses import dataclass, field

import numpy as np

from strategies.diversity import KCenterGreedy
from strategies.pool import Floats, Indices, Need, Pool
from strategies.protocol import Ranking, Strategy, check_request
from strategies.uncertainty import Margin


@dataclass(frozen=True)
class FilterThenDiversify:
    """The most informative images first, then the most diverse of these (Zhdanov, 2019: diverse mini-batches).

    For each batch in turn, `filter` shortlists `keep` times as many images as are wanted from those not chosen
    yet, and `diversify` chooses among them, with the earlier batches counted as labeled. Scores are the filter's.

    The more is kept, the more near-duplicates are avoided and the more outliers are labeled. Three is where, on
    Fashion-MNIST, a pool of near-duplicates gained most of what ten gives and one without lost hardly anything.

    Raises ValueError for a keep below 1.
    """

    filter: Strategy = field(default_factory=Margin)
    diversify: Strategy = field(default_factory=KCenterGreedy)
    keep: int = 3
    needs: frozenset[Need] = field(init=False, repr=False)

    name = "filter_then_diversify"

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise ValueError(f"keep is {self.keep}; shortlist at least 1 image for each that is chosen.")
        object.__setattr__(self, "needs", self.filter.needs | self.diversify.needs)

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """Each batch is diverse within itself and against all before it."""
        check_request(size, batch_size)
        size = min(size, pool.size)
        width = self.keep * batch_size
        # No image further down can come up: the last shortlist starts after size picks at most.
        queue = self.filter.rank(pool, size + width, batch_size=batch_size, seed=seed)
        labeled = _Labeled(pool, size)
        waiting: Indices = np.arange(len(queue))  # places in the queue
        chosen: Indices = np.empty(0, dtype=np.int64)
        reasons: list[str] = []
        for start in range(0, size, batch_size):
            shortlist = queue.indices[waiting[:width]]
            part = pool.take(shortlist, labeled.embeddings())
            wanted = min(batch_size, size - start)
            batch = self.diversify.rank(part, wanted, batch_size=batch_size, seed=seed + start)
            places = waiting[batch.indices]
            reasons += [f"{queue.reasons[p]}; {why}" for p, why in zip(places, batch.reasons, strict=True)]
            chosen = np.append(chosen, places)
            waiting = np.delete(waiting, batch.indices)
            labeled.add(queue.indices[places])
        return Ranking(queue.indices[chosen], queue.scores[chosen], tuple(reasons))


class _Labeled:
    """Embeddings of the labeled set as it grows by what is chosen."""

    def __init__(self, pool: Pool, size: int) -> None:
        self.pool = pool
        self.array: Floats | None = None
        if pool.embeddings is not None and pool.labeled_embeddings is not None:
            self.count = len(pool.labeled_embeddings)
            room = np.empty((size, pool.embeddings.shape[1]), dtype=np.float32)
            self.array = np.concatenate([pool.labeled_embeddings, room])

    def embeddings(self) -> Floats | None:
        return None if self.array is None else self.array[: self.count]

    def add(self, indices: Indices) -> None:
        if self.array is not None and self.pool.embeddings is not None:
            self.array[self.count : self.count + len(indices)] = self.pool.embeddings[indices]
            self.count += len(indices)


@dataclass(frozen=True)
class Mixture:
    """Several strategies side by side, each with its share of every batch; an image goes to the first to want it.

    strategies and shares go in pairs; shares are relative (3 and 1 are 75 % and 25 %). Scores and reasons are those
    of the strategy that chose the image. A strategy does not see what the others choose, but never repeats it.

    Raises ValueError for shares that do not fit.
    """

    strategies: tuple[Strategy, ...]
    shares: tuple[float, ...]
    needs: frozenset[Need] = field(init=False, repr=False)

    name = "mixture"

    def __post_init__(self) -> None:
        if not self.strategies:
            raise ValueError("strategies is empty; a mixture is of one or more.")
        if len(self.shares) != len(self.strategies):
            raise ValueError(
                f"shares has {len(self.shares)} numbers for {len(self.strategies)} strategies; give one for each."
            )
        if not all(np.isfinite(s) and s > 0 for s in self.shares):
            raise ValueError(f"shares are {self.shares}; each is a number above 0.")
        object.__setattr__(self, "needs", frozenset[Need]().union(*(s.needs for s in self.strategies)))

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """Every prefix of the ranking keeps to the shares as closely as whole images allow."""
        check_request(size, batch_size)
        size = min(size, pool.size)
        shares = np.array(self.shares) / sum(self.shares)
        rankings = [
            strategy.rank(pool, size, batch_size=max(1, round(batch_size * share)), seed=seed + i)
            for i, (strategy, share) in enumerate(zip(self.strategies, shares, strict=True))
        ]
        free = np.ones(pool.size, dtype=bool)
        queues = [iter(range(size)) for _ in rankings]
        taken = np.zeros(len(rankings))
        picks: list[tuple[Ranking, int]] = []
        for _ in range(size):
            turn = int(np.argmax(shares * (len(picks) + 1) - taken))
            ranking = rankings[turn]
            # Fewer than `size` images are taken, so a ranking of `size` has one left.
            place = next(p for p in queues[turn] if free[ranking.indices[p]])
            free[ranking.indices[place]] = False
            taken[turn] += 1
            picks.append((ranking, place))
        return Ranking(
            np.array([r.indices[p] for r, p in picks], dtype=np.int64),
            np.array([r.scores[p] for r, p in picks], dtype=np.float64),
            tuple(r.reasons[p] for r, p in picks),
        )
