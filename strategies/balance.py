"""Balance: shares of what is labeled for each class, or for each value of a metadata field, such as the weather."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from strategies.greedy import Greedy
from strategies.objective import Factor
from strategies.pool import Indices, Need, Pool, Scores
from strategies.protocol import Ranking, Strategy, check_request
from strategies.uncertainty import Margin

PREDICTED_CLASS = "predicted_class"

Target = Literal["uniform", "proportional"] | Mapping[str, float]


@dataclass(frozen=True)
class Balance:
    """Prefers the classes, or the values of a metadata field, that have less than their target share so far.

    What is labeled or picked counts. The worth of a group of which nothing is labeled is 1, and where it is about on
    target 1 / (1 + the number of its images for each group). An image has the sum over the classes, by their predicted
    probabilities, or its value's worth. It is meant as an objective of a product; alone it balances and no more.

    over: "predicted_class" or the name of a metadata field.
    target: "uniform", "proportional" to the pool, or relative shares by name; what is not named has none.

    Raises ValueError for shares that are none. `rank` and `factor` raise it for a field or class that is not there.
    """

    over: str = PREDICTED_CLASS
    target: Target = "uniform"

    name = "balance"

    def __post_init__(self) -> None:
        _check(self.target)

    @property
    def needs(self) -> frozenset[Need]:
        """Of the classes, or of a metadata field."""
        return _needs(self.over)

    def factor(self, pool: Pool, size: int) -> Factor:
        """How far an image's class or value is below its target."""
        return _Below(pool, self.over, self.target)

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """Balanced all along, so batches need no care of their own."""
        check_request(size, batch_size)
        size = min(size, pool.size)
        picks = Greedy(pool, [self.factor(pool, size)], [1.0]).picks(size)
        return Ranking(picks.indices, picks.values[:, 0], picks.reasons)


@dataclass(frozen=True)
class Quotas:
    """The ranking of a strategy, with a quota of picks for each predicted class or value of a metadata field.

    Each pick is from the group that is furthest below its share of all that is labeled or picked, so every prefix keeps
    to the quotas as closely as whole images allow. Within a group the strategy ranks as if it were the whole pool. When
    a group runs out, its share goes to the others; groups without a share come last. Scores are the strategy's.

    over and target are as for `Balance`.
    """

    strategy: Strategy = field(default_factory=Margin)
    over: str = PREDICTED_CLASS
    target: Target = "uniform"
    needs: frozenset[Need] = field(init=False, repr=False)

    name = "quotas"

    def __post_init__(self) -> None:
        _check(self.target)
        object.__setattr__(self, "needs", self.strategy.needs | _needs(self.over))

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """Batches are within the groups: each has its part of every batch."""
        check_request(size, batch_size)
        size = min(size, pool.size)
        groups = _Groups(pool, self.over)
        sizes = np.bincount(groups.of, minlength=len(groups.names))
        turns = _turns(groups.shares(self.target, sizes), groups.labeled, sizes, size)
        by_group = np.argsort(groups.of, kind="stable")
        starts = np.cumsum(sizes) - sizes
        indices = np.empty(size, dtype=np.int64)
        scores = np.empty(size)
        reasons = np.empty(size, dtype=object)
        for group in np.unique(turns):
            places = np.flatnonzero(turns == group)
            members = by_group[starts[group] : starts[group] + sizes[group]]
            part = max(1, round(batch_size * len(places) / size))
            ranking = self.strategy.rank(pool.take(members), len(places), batch_size=part, seed=seed)
            indices[places], scores[places] = members[ranking.indices], ranking.scores
            reasons[places] = [f"{why}; for the quota of {groups.names[group]}" for why in ranking.reasons]
        return Ranking(indices, scores, tuple(reasons.tolist()))


def _turns(shares: Scores, labeled: Scores, sizes: Indices, size: int) -> Indices:
    """(size,) from which group each pick comes: the one with the largest deficit that has images left."""
    counts, left = labeled.copy(), sizes.copy()
    turns = np.empty(size, dtype=np.int64)
    for turn in range(size):
        there = left > 0
        wanted = np.where(there, shares, 0)
        if not wanted.any():
            wanted = there.astype(np.float64)
        among = wanted > 0
        deficits = wanted / wanted.sum() * (counts[among].sum() + 1) - counts
        deficits[~among] = -np.inf
        turns[turn] = group = int(deficits.argmax())
        counts[group] += 1
        left[group] -= 1
    return turns


class _Below(Factor):
    """How far below its target the class or the value of each image is, counting what is labeled or picked."""

    def __init__(self, pool: Pool, over: str, target: Target) -> None:
        self.groups = _Groups(pool, over)
        self.counts = self.groups.labeled.copy()
        self.shares = self.groups.shares(target, self.groups.sizes())
        self.worth = self.worth_then = self._worth()  # now, and when all bounds were asked for
        self.all_fade = False

    def values(self, indices: Indices | slice) -> Scores:
        return self.groups.mean(self.worth, indices)

    def bounds(self, indices: Indices | slice) -> Scores:
        values = self.values(indices)
        if isinstance(indices, slice):
            self.worth_then, self.all_fade = self.worth, bool(values.all())
        return values

    def fading(self) -> float:
        wanted = self.shares > 0
        return float((self.worth[wanted] / self.worth_then[wanted]).max()) if self.all_fade else 1.0

    def add(self, index: int) -> None:
        self.counts += self.groups.memberships(index)
        self.worth = self._worth()

    def reason(self, index: int) -> str:
        group = self.groups.of[index]
        total = self.counts.sum()
        has = f"{self.counts[group] / total:.0%} of what is labeled or chosen" if total else "nothing labeled"
        return f"{self.groups.names[group]} has {has}, and {self.shares[group]:.0%} is wanted"

    def _worth(self) -> Scores:
        """(groups,) the worth of an image that is certainly of the group."""
        fair = self.shares * np.count_nonzero(self.shares)
        return np.divide(fair, fair + self.counts, out=np.zeros_like(fair), where=fair > 0)


class _Groups:
    """The classes, or the values of a metadata field, and which images are of which.

    keys: what a target calls them; names: what reasons call them. of: (n,) the likeliest group of each image.
    labeled: (groups,) how many of the labeled set are of each.
    """

    def __init__(self, pool: Pool, over: str) -> None:
        self.over = over
        self.probabilities: Scores | None = None
        if over == PREDICTED_CLASS:
            self._take_classes(pool)
        else:
            self._take_values(pool)

    def _take_classes(self, pool: Pool) -> None:
        pool.require(Need.PROBABILITIES)
        self.probabilities = pool.probabilities
        count = self.probabilities.shape[1]
        self.keys = list(pool.classes or map(str, range(count)))
        self.names = [pool.class_name(index) for index in range(count)]
        self.of: Indices = self.probabilities.argmax(axis=1)
        self.labeled: Scores = pool.require(Need.LABELED_TARGETS).sum(axis=0, dtype=np.float64)

    def _take_values(self, pool: Pool) -> None:
        values, labeled = pool.group(self.over), _labeled_values(pool, self.over)
        keys, of = np.unique(np.concatenate([values, labeled]), return_inverse=True)
        self.keys = keys.tolist()
        self.names = [f"{self.over} {key}" for key in self.keys]
        self.of = of[: pool.size]
        self.labeled = np.bincount(of[pool.size :], minlength=len(keys)).astype(np.float64)

    def sizes(self) -> Scores:
        """(groups,) how many images of the pool are of each, by their probabilities where there are such."""
        if self.probabilities is None:
            return np.bincount(self.of, minlength=len(self.keys)).astype(np.float64)
        sizes: Scores = self.probabilities.sum(axis=0)
        return sizes

    def mean(self, worth: Scores, indices: Indices | slice) -> Scores:
        """(k,) the worth of the groups of images, by their probabilities where there are such."""
        mean: Scores = (
            worth[self.of[indices]] if self.probabilities is None else self.probabilities[indices] @ worth
        )
        return mean

    def memberships(self, index: int) -> Scores:
        """(groups,) how much of each group an image is."""
        memberships = np.zeros(len(self.keys)) if self.probabilities is None else self.probabilities[index]
        if self.probabilities is None:
            memberships[self.of[index]] = 1
        return memberships

    def shares(self, target: Target, sizes: Scores | Indices) -> Scores:
        """(groups,) the target shares, which sum to 1; `sizes` are what "proportional" means."""
        shares: Scores
        if isinstance(target, Mapping):
            self._check_names(target)
            shares = np.array([target.get(key, 0.0) for key in self.keys])
        else:
            shares = np.array(
                sizes if target == "proportional" else np.ones(len(self.keys)), dtype=np.float64
            )
        shares /= shares.sum() or 1
        return shares

    def _check_names(self, target: Mapping[str, float]) -> None:
        """A class must be there. A value may have run out, but not all of them."""
        unknown = [name for name in target if name not in self.keys]
        if unknown and (self.probabilities is not None or (self.keys and len(unknown) == len(target))):
            what = "class" if self.probabilities is not None else f"value of {self.over}"
            raise ValueError(
                f"The target names {', '.join(map(repr, unknown))}, which is no {what} there is. "
                f"There are: {', '.join(self.keys)}."
            )


def _labeled_values(pool: Pool, name: str) -> NDArray[np.str_]:
    labeled = max(len(a) for a in (pool.labeled_embeddings, pool.labeled_targets, ()) if a is not None)
    values = pool.labeled_groups.get(name)
    if values is None and labeled:
        raise ValueError(
            f"This strategy needs the metadata field {name!r} of the labeled set: "
            f"make the pool with Pool(labeled_groups={{{name!r}: …}})."
        )
    return np.asarray([] if values is None else values).astype(np.str_)


def _needs(over: str) -> frozenset[Need]:
    if over == PREDICTED_CLASS:
        return frozenset({Need.PROBABILITIES, Need.LABELED_TARGETS})
    return frozenset({Need.GROUPS})


def _check(target: Target) -> None:
    """Raises ValueError for a target that is none."""
    if isinstance(target, Mapping):
        shares = list(target.values())
        if not all(np.isfinite(share) and share >= 0 for share in shares) or not sum(shares):
            raise ValueError(f"target is {dict(target)}; give shares of 0 or more, one of them above 0.")
    elif target not in get_args(get_args(Target)[0]):
        raise ValueError(f'target is {target!r}; write "uniform", "proportional" or shares by name.')
