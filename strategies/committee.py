"""Query by committee: the images on which several learners, or several dropout draws of one, disagree.

Several labels an image are as many independent yes/no questions; the score is the mean over them.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from strategies.pool import Floats, Need, Pool, Scores
from strategies.scored import ScoredStrategy
from strategies.uncertainty import entropy


@dataclass(frozen=True)
class VoteEntropy(ScoredStrategy):
    """Entropy of the members' votes, in nats (Dagan & Engelson, ICML 1995). A vote is the likeliest class."""

    name = "vote_entropy"
    needs = frozenset({Need.COMMITTEE})

    def scores(self, pool: Pool) -> Scores:
        committee = _committee(pool)
        if pool.multi_label:
            return entropy((committee >= 0.5).mean(axis=0), multi_label=True)
        votes = np.zeros(committee.shape[1:])
        for member in committee:
            votes[np.arange(pool.size), member.argmax(axis=1)] += 1
        # Sorted, so that a split scores the same to the last bit whichever the classes.
        return entropy(np.sort(votes, axis=1) / len(committee), multi_label=False)

    def reason(self, pool: Pool, index: int) -> str:
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
        members = _committee(pool)[:, index]
        low, high = members.min(axis=0), members.max(axis=0)
        contested = int((high - low).argmax())
        return (
            f"committee of {len(members)} puts {pool.class_name(contested)} "
            f"anywhere from {low[contested]:.0%} to {high[contested]:.0%}"
        )


def _committee(pool: Pool) -> Floats:
    committee = pool.require(Need.COMMITTEE)
    if len(committee) < 2:
        raise ValueError("Pool.committee has one member, and one cannot disagree: train two or more.")
    return committee
