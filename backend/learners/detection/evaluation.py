"""Mean average precision, as COCO measures it, with a confidence interval.

Average precision is the mean, over 101 levels of recall, of the highest precision at that recall or more (Everingham et
al., 2010; Lin et al., 2014). COCO's mean is over ten overlaps, 0.5 to 0.95, that a found box must have with a true one.

Boxes are matched image by image, once. What follows, the bootstrap over images among it, is sums over the matches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.learners.detection.answers import BoxAnswers, Boxes
from backend.learners.learner import Evaluation
from backend.targets import BoxTarget

METRIC = "mean average precision at 0.5 overlap"
OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
BOOTSTRAP_SAMPLES = 1000
BLOCK = 2**22  # numbers of the bootstrap in memory at a time

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Matches:
    """Which of the found boxes of one class are right, the likeliest first.

    scores: (found,). right: (overlaps, found), whether there is a true box with that overlap which no likelier
    one was matched with. images: (found,) where each is. actual: (images,) how many true boxes each has.
    """

    scores: Numbers
    right: NDArray[np.bool_]
    images: NDArray[np.int64]
    actual: NDArray[np.int64]

    def average_precision(self, weights: Numbers | None = None) -> Numbers:
        """(samples, overlaps) where each image counts `weights` (samples, images) times; once where not given.

        NaN for a sample that has no true box.
        """
        counts = np.ones((1, len(self.actual))) if weights is None else weights
        total = counts @ self.actual
        of_found = counts[:, self.images]
        result = np.zeros((len(counts), len(self.right)))
        for overlap, right in enumerate(self.right):
            hits = np.cumsum(of_found * right, axis=1)
            found = np.cumsum(of_found, axis=1)
            precision = np.divide(hits, found, out=np.zeros_like(hits), where=found > 0)
            precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            for sample in np.flatnonzero(total):
                reached = np.searchsorted(hits[sample] / total[sample], RECALLS, side="left")
                reached = reached[reached < len(right)]
                result[sample, overlap] = precision[sample, reached].sum() / len(RECALLS)
        result[total == 0] = np.nan
        return result


def match(found: Sequence[Boxes], actual: Sequence[Boxes], classes: int) -> list[Matches]:
    """For each class the matches of what is found in the images with what is there.

    The likeliest box first, each is matched with the true box that it overlaps most of those still free.
    """
    return [_match_class(found, actual, index) for index in range(classes)]


def _match_class(found: Sequence[Boxes], actual: Sequence[Boxes], index: int) -> Matches:
    scores: list[Numbers] = [np.empty(0)]
    right: list[NDArray[np.bool_]] = [np.empty((len(OVERLAPS), 0), dtype=bool)]
    images: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    counts = np.zeros(len(actual), dtype=np.int64)
    for image, (ours, theirs) in enumerate(zip(found, actual, strict=True)):
        true = theirs.places[theirs.labels == index]
        counts[image] = len(true)
        own = np.flatnonzero(ours.labels == index)
        own = own[np.argsort(-ours.scores[own], kind="stable")]
        scores.append(ours.scores[own])
        right.append(_match_image(overlaps(ours.places[own], true)))
        images.append(np.full(len(own), image))
    all_scores = np.concatenate(scores)
    order = np.argsort(-all_scores, kind="stable")
    return Matches(
        all_scores[order], np.concatenate(right, axis=1)[:, order], np.concatenate(images)[order], counts
    )


def _match_image(overlap: Numbers) -> NDArray[np.bool_]:
    """(overlaps, found) which boxes find a true one. overlap: (found, true), the likeliest first."""
    right = np.zeros((len(OVERLAPS), len(overlap)), dtype=bool)
    if not overlap.size:
        return right
    free = np.ones((len(OVERLAPS), overlap.shape[1]), dtype=bool)
    rows = np.arange(len(OVERLAPS))
    for place, with_each in enumerate(overlap):
        if with_each.max() < OVERLAPS[0]:
            continue
        possible = np.where(free & (with_each >= OVERLAPS[:, None]), with_each, -1)
        # Of several with the same overlap the last, as COCO does.
        best = possible.shape[1] - 1 - possible[:, ::-1].argmax(axis=1)
        right[:, place] = hit = possible[rows, best] >= 0
        free[rows[hit], best[hit]] = False
    return right


def overlaps(a: Numbers, b: Numbers) -> Numbers:
    """(len(a), len(b)) intersections over unions of boxes (n, 4)."""
    least = np.maximum(a[:, None, :2], b[None, :, :2])
    most = np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.prod(np.clip(most - least, 0, None), axis=2)
    areas = np.prod(a[:, 2:] - a[:, :2], axis=1)[:, None] + np.prod(b[:, 2:] - b[:, :2], axis=1)
    shares: Numbers = both / np.maximum(areas - both, np.finfo(float).tiny)
    return shares


def evaluate_boxes(
    answers: BoxAnswers, targets: Sequence[BoxTarget], classes: Sequence[str], *, seed: int = 0
) -> Evaluation:
    """Compare what was found in images with what annotators drew there.

    The score is the mean over the classes that occur of the average precision at an overlap of 0.5, its interval by
    the bootstrap over images (Efron, 1979). Where there is no true box, the score is 1 if none is found and 0 if one
    is. Boxes of other classes than `classes` are left out. Raises ValueError for no image and where the numbers
    of answers and targets differ.
    """
    if len(answers) != len(targets) or not targets:
        raise ValueError(
            f"{len(answers)} answers and {len(targets)} targets; there must be one of each, or more."
        )
    actual = [true_boxes(target, classes) for target in targets]
    found = [answers.boxes(position) for position in range(len(answers))]
    matches = match(found, actual, len(classes))
    each = np.concatenate([one.average_precision() for one in matches])  # (classes, overlaps)
    counts = [int(one.actual.sum()) for one in matches]
    if any(counts):
        score, coco = float(np.nanmean(each[:, 0])), float(np.nanmean(each))
        interval = _bootstrap(matches, np.random.default_rng(seed))
    else:
        score = coco = float(not any(len(boxes.labels) for boxes in found))
        interval = (0.0, 1.0)
    return Evaluation(
        metric=METRIC,
        score=score,
        interval=interval,
        total=len(targets),
        classes=tuple(
            {"name": name, "actual": count, "score": float(ap) if count else None}
            for name, count, ap in zip(classes, counts, each[:, 0], strict=True)
        ),
        details={"mean average precision at overlaps 0.5 to 0.95": coco},
    )


def _bootstrap(matches: Sequence[Matches], rng: np.random.Generator) -> tuple[float, float]:
    """95 % confidence interval of the mean average precision at the first overlap."""
    images = len(matches[0].actual)
    step = max(1, BLOCK // max(1, images, *(len(one.images) for one in matches)))
    scores = []
    for start in range(0, BOOTSTRAP_SAMPLES, step):
        samples = min(step, BOOTSTRAP_SAMPLES - start)
        weights = rng.multinomial(images, np.full(images, 1 / images), size=samples).astype(np.float64)
        each = np.stack([_first_overlap(one).average_precision(weights)[:, 0] for one in matches])
        there = ~np.isnan(each)
        scores.append(
            np.where(there, each, 0).sum(axis=0)[there.any(axis=0)] / there.sum(axis=0)[there.any(axis=0)]
        )
    low, high = np.quantile(np.concatenate(scores), [0.025, 0.975])
    return float(low), float(high)


def _first_overlap(matches: Matches) -> Matches:
    return Matches(matches.scores, matches.right[:1], matches.images, matches.actual)


def true_boxes(target: BoxTarget, classes: Sequence[str]) -> Boxes:
    """What annotators drew, boxes of other classes than `classes` left out."""
    boxes = [box for box in target.boxes if box.label in classes]
    places = [[box.left, box.top, box.right, box.bottom] for box in boxes]
    labels = [list(classes).index(box.label) for box in boxes]
    return Boxes(
        np.array(places, dtype=np.float64).reshape(-1, 4), np.array(labels, np.int64), np.ones(len(boxes))
    )


def best_threshold(matches: Sequence[Matches]) -> float:
    """The score from which to believe boxes for the highest F1 at an overlap of 0.5; 0.5 if none is right."""
    scores = np.concatenate([one.scores for one in matches])
    right = np.concatenate([one.right[0] for one in matches])
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(right[order])
    if not len(hits) or not hits[-1]:
        return 0.5
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + sum(int(one.actual.sum()) for one in matches))
    best = int(f1.argmax())
    following = scores[best + 1] if best + 1 < len(scores) else scores[best]
    return float(np.clip((scores[best] + following) / 2, 0.1, 0.9))
