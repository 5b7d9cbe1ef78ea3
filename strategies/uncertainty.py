"""Uncertainty sampling: the images that the model is least sure of (Lewis & Gale, 1994).

All scores are of the committee's mean probabilities. Several labels an image are as many independent yes/no
questions: the least certain one decides for `least_confidence`, `margin` and `ratio` (BinMin; Brinker, 2006), and
the mean for `entropy`, because the entropies of independent answers add up.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from strategies.pool import Need, Pool, Scores
from strategies.scored import ScoredStrategy


@dataclass(frozen=True)
class LeastConfidence(ScoredStrategy):
    """One minus the probability of the likeliest class (Culotta & McCallum, AAAI 2005)."""

    name = "least_confidence"
    needs = frozenset({Need.PROBABILITIES})

    def scores(self, pool: Pool) -> Scores:
        best, _ = _best_two(pool)
        return 1 - best

    def reason(self, pool: Pool, index: int) -> str:
        if pool.multi_label:
            return _undecided(pool, index)
        p = pool.probabilities[index]
        best = int(p.argmax())
        return f"most likely {pool.class_name(best)}, with only {p[best]:.0%}"


@dataclass(frozen=True)
class Margin(ScoredStrategy):
    """One minus the lead of the likeliest class over the second (Scheffer et al., 2001: best vs second)."""

    name = "margin"
    needs = frozenset({Need.PROBABILITIES})

    def scores(self, pool: Pool) -> Scores:
        best, second = _best_two(pool)
        return 1 - (best - second)

    def reason(self, pool: Pool, index: int) -> str:
        return between(pool, index)


@dataclass(frozen=True)
class Ratio(ScoredStrategy):
    """The probability of the second likeliest class over that of the likeliest (Munro, 2021: ratio of confidence)."""

    name = "ratio"
    needs = frozenset({Need.PROBABILITIES})

    def scores(self, pool: Pool) -> Scores:
        best, second = _best_two(pool)
        return second / best

    def reason(self, pool: Pool, index: int) -> str:
        return between(pool, index)


@dataclass(frozen=True)
class Entropy(ScoredStrategy):
    """Shannon entropy of the class probabilities, in nats (Dagan & Engelson, ICML 1995)."""

    name = "entropy"
    needs = frozenset({Need.PROBABILITIES})

    def scores(self, pool: Pool) -> Scores:
        return entropy(pool.probabilities, multi_label=pool.multi_label)

    def reason(self, pool: Pool, index: int) -> str:
        if pool.multi_label:
            return _undecided(pool, index)
        likeliest = np.argsort(-pool.probabilities[index], kind="stable")[:3]
        return "undecided: " + ", ".join(_with_share(pool, index, int(c)) for c in likeliest)


def between(pool: Pool, index: int) -> str:
    """Which two classes compete, in words."""
    p = pool.probabilities[index]
    if pool.multi_label or len(p) == 1:
        return _undecided(pool, index)
    best, second = (int(i) for i in np.argsort(-p, kind="stable")[:2])
    return f"between {_with_share(pool, index, best)} and {_with_share(pool, index, second)}"


def _best_two(pool: Pool) -> tuple[Scores, Scores]:
    """(size,) probability of the likeliest answer and of the next; for several labels those of the least certain."""
    p = pool.probabilities
    if pool.multi_label:
        best: Scores = np.maximum(p, 1 - p).min(axis=1)
        return best, 1 - best
    if p.shape[1] == 1:
        return p[:, 0], np.zeros(pool.size)
    top = np.partition(p, p.shape[1] - 2, axis=1)
    return top[:, -1], top[:, -2]


def entropy(probabilities: NDArray[np.float64], *, multi_label: bool) -> Scores:
    """Entropy over the last axis, in nats; with `multi_label` the mean of the classes' binary entropies."""
    p = np.clip(probabilities, 0, 1)
    total: Scores = (
        (_entropy_terms(p) + _entropy_terms(1 - p)).mean(axis=-1)
        if multi_label
        else _entropy_terms(p).sum(axis=-1)
    )
    return total


def _entropy_terms(p: NDArray[np.float64]) -> NDArray[np.float64]:
    terms: NDArray[np.float64] = torch.special.entr(torch.from_numpy(p)).numpy()
    return terms


def _undecided(pool: Pool, index: int) -> str:
    least_certain = int(np.abs(pool.probabilities[index] - 0.5).argmin())
    return f"undecided on {_with_share(pool, index, least_certain)}"


def _with_share(pool: Pool, index: int, class_index: int) -> str:
    return f"{pool.class_name(class_index)} ({pool.probabilities[index, class_index]:.0%})"
