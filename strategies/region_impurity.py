"""Where the classes that a segmenter sees border on one another, and it doubts them."""

from dataclasses import dataclass

import numpy as np

from strategies.pool import Need, Pool, Scores
from strategies.regions import Regions, units_of
from strategies.scored import ScoredStrategy
from strategies.uncertainty import Entropy, entropy


@dataclass(frozen=True)
class RegionImpurity(ScoredStrategy):
    """How mixed the predicted classes are in a region, times how uncertain its pixels are on average.

    Xie et al., CVPR 2022 ("Towards Fewer Annotations: Active Learning via Region Impurity and Prediction Uncertainty
    for Domain Adaptive Semantic Segmentation"). Impurity is the entropy of the histogram of the likeliest classes,
    uncertainty the mean entropy of the pixels' probabilities, both in nats. Regions at borders between objects come
    first, and unlike by pixel entropy alone a blurred border between two parts of one object does not.

    It scores whatever has pixels for units. In a pool of images whose units are cells, and theirs pixels, it is the
    score inside `regions`.
    """

    name = "region_impurity"
    needs = frozenset({Need.UNITS})

    def scores(self, pool: Pool) -> Scores:
        histograms = _histograms(pool)
        if not histograms.any():
            return np.zeros(pool.size)
        shares = histograms / np.maximum(histograms.sum(axis=1, keepdims=True), 1)
        # Sorted, so that a mixture scores the same to the last bit whichever the classes.
        impurity = entropy(np.sort(shares, axis=1), multi_label=False)
        return impurity * Regions(Entropy(), "mean").scores(pool)

    def reason(self, pool: Pool, index: int) -> str:
        units = pool.require_units()
        own = units.pool.take(units_of(units, index))
        if own.size == 0:
            return "it has no pixels"
        histogram = np.bincount(own.probabilities.argmax(axis=1))
        by_share = np.argsort(-histogram, kind="stable")[: np.count_nonzero(histogram)]
        names = [own.class_name(int(value)) for value in by_share[:3]]
        doubt = f"{entropy(own.probabilities, multi_label=own.multi_label).mean():.2f} nats of doubt a pixel"
        if len(names) == 1:
            return f"{names[0]} throughout, with {doubt}"
        return f"{', '.join(names[:-1])} and {names[-1]} side by side, with {doubt}"


def _histograms(pool: Pool) -> Scores:
    """(size, classes) of how many pixels of a region each class is the likeliest."""
    units = pool.require_units()
    if units.pool.size == 0:
        return np.zeros((pool.size, 1))
    classes = units.pool.probabilities.shape[1]
    bins = np.asarray(units.owners) * classes + units.pool.probabilities.argmax(axis=1)
    return np.bincount(bins, minlength=pool.size * classes).reshape(pool.size, classes).astype(np.float64)
