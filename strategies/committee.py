"""Query by committee: the images on which several learners, or several dropout draws of one, disagree.

Several labels an image are as many independent yes/no questions; the score is the mean over them. The members are
gone through one by one, so that nothing as large as the committee itself is made.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from strategies.pool import Floats, Need, Pool, Scores
from strategies.scored import ScoredStrategy
from strategies.uncertainty import Entropy, entropy


@dataclass(frozen=True)
class VoteEntropy(ScoredStrategy):
    """Entropy of the members' votes, in nats (Dagan & Engelson, ICML 1995). A vote is the likeliest class."""

    name = "vote_entropy"
    needs = frozenset({Need.COMMITTEE})

    def scores(self, pool: Pool) -> Scores:
        # Sorted, so that a split scores the same to the last bit whichever the classes.
        votes = _votes(pool) if pool.multi_label else np.sort(_votes(pool), axis=1)
        return entropy(votes, multi_label=pool.multi_label)

    def reason(self, pool: Pool, index: int) -> str:
        return _split(pool, index)


@dataclass(frozen=True)
class VariationRatio(ScoredStrategy):
    """Share of the members that do not vote with the most (Freeman, 1965; Gal, Islam & Ghahramani, ICML 2017)."""

    name = "variation_ratio"
    needs = frozenset({Need.COMMITTEE})

    def scores(self, pool: Pool) -> Scores:
        votes = _votes(pool)
        if pool.multi_label:
            minority: Scores = np.minimum(votes, 1 - votes).mean(axis=1)
            return minority
        majority: Scores = votes.max(axis=1)
        return 1 - majority

    def reason(self, pool: Pool, index: int) -> str:
        return _split(pool, index)


@dataclass(frozen=True)
class ConsensusEntropy(ScoredStrategy):
    """Entropy of the mean of the members' probabilities, in nats: `entropy` of a committee (Settles, 2009).

    Members that disagree and members that all doubt score alike; `bald` tells them apart.
    """

    name = "consensus_entropy"
    needs = frozenset({Need.COMMITTEE})

    def scores(self, pool: Pool) -> Scores:
        _committee(pool)
        return entropy(pool.probabilities, multi_label=pool.multi_label)

    def reason(self, pool: Pool, index: int) -> str:
        return f"committee of {len(_committee(pool))} together {Entropy().reason(pool, index)}"


@dataclass(frozen=True)
class Bald(ScoredStrategy):
    """What the label would tell about which member is right: mutual information, in nats (Houlsby et al., 2011)."""

    name = "bald"
    needs = frozenset({Need.COMMITTEE})

    def scores(self, pool: Pool) -> Scores:
        committee = _committee(pool)
        own = np.zeros(pool.size)
        for member in committee:
            own += entropy(member.astype(np.float64), multi_label=pool.multi_label)
        together = entropy(pool.probabilities, multi_label=pool.multi_label)
        return np.maximum(together - own / len(committee), 0)

    def reason(self, pool: Pool, index: int) -> str:
        return _spread(pool, index)


@dataclass(frozen=True)
class ConsensusKL(Bald):
    """Mean Kullback-Leibler divergence of the members from their mean, in nats (McCallum & Nigam, ICML 1998).

    The same number as `bald`, by way of another idea: the mean over members of the sum of p log(p / mean) is the
    entropy of the mean less the mean of the entropies.
    """

    name = "consensus_kl"


@dataclass(frozen=True)
class MeanStandardDeviation(ScoredStrategy):
    """Standard deviation of each class's probability over the members, mean over the classes.

    Kampffmeyer, Salberg & Jenssen, CVPR workshops 2016; Gal, Islam & Ghahramani, ICML 2017 ("Mean STD").
    """

    name = "mean_standard_deviation"
    needs = frozenset({Need.COMMITTEE})

    def scores(self, pool: Pool) -> Scores:
        committee = _committee(pool)
        variance = np.zeros_like(pool.probabilities)
        for member in committee:
            # About the mean: the mean square less the squared mean would cancel where members nearly agree.
            variance += (member - pool.probabilities) ** 2
        deviation: Scores = np.sqrt(variance / len(committee)).mean(axis=1)
        return deviation

    def reason(self, pool: Pool, index: int) -> str:
        return _spread(pool, index)


def _committee(pool: Pool) -> Floats:
    committee = pool.require(Need.COMMITTEE)
    if len(committee) < 2:
        raise ValueError("Pool.committee has one member, and one cannot disagree: train two or more.")
    return committee


def _votes(pool: Pool) -> Scores:
    """(size, classes) share of the members that vote for each class; with several labels those that say yes to it."""
    committee = _committee(pool)
    votes = np.zeros(committee.shape[1:])
    for member in committee:
        if pool.multi_label:
            votes += member >= 0.5
        else:
            votes[np.arange(pool.size), member.argmax(axis=1)] += 1
    return votes / len(committee)


def _split(pool: Pool, index: int) -> str:
    """How the votes fall, in words."""
    members = _committee(pool)[:, index]
    if pool.multi_label:
        ayes = (members >= 0.5).sum(axis=0)
        contested = int(np.abs(ayes - len(members) / 2).argmin())
        yes = int(ayes[contested])
        return f"committee of {len(members)} split {yes}:{len(members) - yes} on {pool.class_name(contested)}"
    votes = Counter(members.argmax(axis=1).tolist()).most_common()
    names = [pool.class_name(c) for c, _ in votes]
    if len(votes) == 1:
        return f"committee of {len(members)} agrees on {names[0]}"
    split = ":".join(str(count) for _, count in votes)
    return f"committee of {len(members)} split {split} between {', '.join(names[:-1])} and {names[-1]}"


def _spread(pool: Pool, index: int) -> str:
    """How far apart the members' probabilities lie, in words."""
    members = _committee(pool)[:, index]
    low, high = members.min(axis=0), members.max(axis=0)
    contested = int((high - low).argmax())
    return (
        f"committee of {len(members)} puts {pool.class_name(contested)} "
        f"anywhere from {low[contested]:.0%} to {high[contested]:.0%}"
    )
