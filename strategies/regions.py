"""From the parts of an image that the learner judges one by one to the image: boxes, cells, pixels."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from strategies.pool import Indices, Need, Pool, Scores, Units
from strategies.scored import ScoredStrategy
from strategies.uncertainty import Entropy


@dataclass(frozen=True)
class Regions(ScoredStrategy):
    """The score of an image from those of its units (Brust et al., VISAPP 2019: aggregations for detection).

    score: what is worth labeling in a unit; its needs are those of `Pool.units.pool`.
    reduction: `max`, the one most informative unit: neither crowded images nor those with one odd unit among many
        plain ones are at an advantage because of their number; `mean`, an image that is informative throughout;
        `sum`, what there is to learn in the whole image, which favours crowded ones: right where an image costs the
        same however much is in it; `top_k_mean`, the mean over the `top_k` highest, or over all where there are
        fewer.
    without_units: the place of an image in which the learner finds nothing. That may be right, or it missed all that
        is there. `median`: scored like the median image with units, so that such images come up before those that the
        learner is surest of; `last`, after all others; `first`, before all others, where misses are what matters.

    Raises ValueError for a top_k below 1.
    """

    score: ScoredStrategy = field(default_factory=Entropy)
    reduction: Literal["max", "mean", "sum", "top_k_mean"] = "max"
    top_k: int = 3
    without_units: Literal["median", "last", "first"] = "median"

    name = "regions"
    needs = frozenset({Need.UNITS})

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; take the mean over 1 unit or more.")

    def scores(self, pool: Pool) -> Scores:
        units = pool.require_units()
        counts = np.bincount(units.owners, minlength=pool.size)
        scores = np.zeros(pool.size)
        if units.pool.size == 0:
            return scores
        scores[counts > 0] = self._reduced(units, counts[counts > 0])
        scores[counts == 0] = self._of_none(scores[counts > 0])
        return scores

    def _reduced(self, units: Units, counts: Indices) -> Scores:
        """(images with units,) their scores. counts: how many units each has."""
        of_units = self.score.scores(units.pool)
        order = np.lexsort((-of_units, units.owners))  # image by image, the highest first
        of_units = of_units[order]
        starts = np.cumsum(counts) - counts
        if self.reduction == "max":
            highest: Scores = of_units[starts]
            return highest
        if self.reduction == "top_k_mean":
            place = np.arange(len(of_units)) - np.repeat(starts, counts)
            of_units[place >= self.top_k] = 0
            counts = np.minimum(counts, self.top_k)
        total: Scores = np.add.reduceat(of_units, starts)
        return total if self.reduction == "sum" else total / counts

    def _of_none(self, others: Scores) -> float:
        match self.without_units:
            case "median":
                return float(np.median(others))
            case "last":
                return float(np.nextafter(others.min(), -np.inf))
            case "first":
                return float(np.nextafter(others.max(), np.inf))

    def reason(self, pool: Pool, index: int) -> str:
        units = pool.require_units()
        own = units.pool.take(units_of(units, index))
        if own.size == 0:
            return "nothing is found in it, or all in it is missed"
        why = self.score.reason(own, int(np.argmax(self.score.scores(own))))
        return (
            f"{why}, its only region"
            if own.size == 1
            else f"{why}, the most informative of its {own.size} regions"
        )


def units_of(units: Units, index: int) -> Indices:
    """Positions of the units of an image."""
    order, owners = units.by_owner
    start, end = np.searchsorted(owners, [index, index + 1])
    return order[start:end]
