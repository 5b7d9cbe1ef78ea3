"""Strategies for the objects that a detector finds: `Pool.units` that are boxes."""

from dataclasses import dataclass, replace

import numpy as np

from strategies.diversity import NearestCenter
from strategies.greedy import Greedy
from strategies.objective import Factor
from strategies.pool import Indices, Need, Pool, Scores, Units
from strategies.protocol import Ranking, check_request
from strategies.scored import ScoredStrategy


@dataclass(frozen=True)
class LocalisationStability(ScoredStrategy):
    """Boxes on whose place the members do not agree (Kao et al., ACCV 2018, "Localization-aware active learning").

    The score is one less the mean overlap of the members' boxes, times the probability of the likeliest class: what is
    hardly an object has no place either. It is meant for boxes, within `regions`. The paper's score of an image is the
    sum over its boxes, divided by the sum of the probabilities; `regions` has `mean`, `sum` and others instead.
    """

    name = "localisation_stability"
    needs = frozenset({Need.LOCALISATION, Need.PROBABILITIES})

    def scores(self, pool: Pool) -> Scores:
        instability = 1 - pool.require(Need.LOCALISATION).astype(np.float64)
        pool.require(Need.PROBABILITIES)
        scores: Scores = instability * pool.probabilities.max(axis=1)
        return scores

    def reason(self, pool: Pool, index: int) -> str:
        likeliest = int(pool.probabilities[index].argmax())
        overlap = pool.require(Need.LOCALISATION)[index]
        return f"the boxes that the members draw around {pool.class_name(likeliest)} overlap by {overlap:.0%} only"


@dataclass(frozen=True)
class ObjectDiversity:
    """Images whose objects are least like all objects labeled or chosen before.

    The worth of an image is the mean over its objects of the distance to the nearest such object, so that what is new
    counts, and not how many objects there are. It is k-center greedy (Sener & Savarese, 2018) on the objects, chosen
    image by image. Images in which nothing is found are worth the median at first, and with each one chosen less: the
    median divided by one more than their number.

    It needs the embeddings of `Pool.units.pool`. Its `labeled_embeddings`, of the objects in the labeled set, count
    where they are given.
    """

    name = "object_diversity"
    needs = frozenset({Need.UNITS, Need.LABELED_UNITS})

    def factor(self, pool: Pool, size: int) -> Factor:
        """The mean distance of an image's objects to the nearest labeled or picked ones."""
        return _MeanOverObjects(pool, size)

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """Each pick is the best given all before it, so batches need no care of their own."""
        check_request(size, batch_size)
        size = min(size, pool.size)
        picks = Greedy(pool, [self.factor(pool, size)], [1.0]).picks(size)
        return Ranking(picks.indices, picks.values[:, 0], picks.reasons)


class _MeanOverObjects(Factor):
    """The mean of the distances of an image's objects to their nearest centres, which only fall."""

    def __init__(self, pool: Pool, size: int) -> None:
        self.units = units = pool.require_units()
        self.counts = np.bincount(units.owners, minlength=pool.size)
        self.distance = _distances(units, int(np.sort(self.counts)[::-1][:size].sum()))
        self.empty_picks = 0
        self.without_objects = 1.0  # what an image in which nothing is found is worth
        if units.pool.size:
            self.without_objects = float(np.median(self.bounds(np.flatnonzero(self.counts))))
        # The images whose values were asked for last, and their objects: asked for again, these are the same array.
        self.asked: Indices | None = None
        self.objects: Indices = np.empty(0, dtype=np.int64)

    def values(self, indices: Indices | slice) -> Scores:
        assert isinstance(indices, np.ndarray)
        if indices is not self.asked:
            self.asked, self.objects = indices, self.units.of(indices)[0]
        return self._means(indices, self.distance.values(self.objects) if len(self.objects) else np.empty(0))

    def bounds(self, indices: Indices | slice) -> Scores:
        indices = np.arange(len(self.counts))[indices] if isinstance(indices, slice) else indices
        objects = self.units.of(indices)[0]
        bounds = self._means(indices, self.distance.bounds(objects) if len(objects) else np.empty(0))
        return bounds * (1 + 1e-12)  # sums may be rounded otherwise

    def tighten(self, indices: Indices) -> Scores:
        if len(objects := self.units.of(indices)[0]):
            self.distance.tighten(objects)
        return self.bounds(indices)

    def add(self, index: int) -> None:
        objects = self.units.of(np.array([index]))[0]
        self.empty_picks += len(objects) == 0
        for place in objects:
            self.distance.add(int(place))

    def reason(self, index: int) -> str:
        count = int(self.counts[index])
        if not count:
            return "nothing is found in it, or all in it is missed"
        if not self.distance.count:
            return "no object labeled yet to be unlike"
        distance = float(self.bounds(np.array([index]))[0])
        what = "its object is" if count == 1 else f"its {count} objects are"
        return f"{what} unlike all objects labeled or chosen before (mean distance {distance:.3g})"

    def _means(self, indices: Indices, of_objects: Scores) -> Scores:
        """(k,) for each image the mean of its part of `of_objects`, which holds one image after the other."""
        counts = self.counts[indices]
        means = np.full(len(indices), self.without_objects / (1 + self.empty_picks))
        some = counts > 0
        starts = (np.cumsum(counts) - counts)[some]
        if len(starts):
            means[some] = np.add.reduceat(of_objects, starts) / counts[some]
        return means


def _distances(units: Units, size: int) -> NearestCenter:
    """The distance of each object to its nearest centre, of which there will be `size` more."""
    objects = units.pool
    if not objects.size:
        nothing = np.empty((0, 1), np.float32)
        objects = Pool(0, embeddings=nothing, labeled_embeddings=nothing)
    elif objects.labeled_embeddings is None:
        embeddings = objects.require(Need.EMBEDDINGS)
        objects = replace(objects, labeled_embeddings=np.empty((0, embeddings.shape[1]), np.float32))
    return NearestCenter(objects, size)
