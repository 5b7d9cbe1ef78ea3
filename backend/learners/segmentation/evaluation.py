"""Mean intersection over union (Everingham et al., 2010), with a confidence interval."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.learners.learner import Evaluation
from backend.learners.segmentation.answers import MaskAnswers
from backend.learners.segmentation.rendering import BACKGROUND, IGNORED, label_map
from backend.targets import MaskTarget

METRIC = "mean intersection over union"
BOOTSTRAP_SAMPLES = 1000


def evaluate_masks(
    answers: MaskAnswers, targets: Sequence[MaskTarget], classes: Sequence[str], *, seed: int = 0
) -> Evaluation:
    """Compare what the learner says of each pixel with what annotators drew there, at the learner's resolution.

    Pixels are counted over all images together. The score is the mean over the classes that occur of the pixels that
    are rightly of the class over those that are, or are said to be, of it. The background is none of the classes: its
    own figure is in the details, beside the share of all pixels that are right. A learner that was shown no background
    is not measured on it. The interval is by the bootstrap over images (Efron, 1979). Where no class occurs, the score
    is 1 if none is found and 0 if one is.

    Raises ValueError for no image and where the numbers of answers and targets differ.
    """
    if len(answers) != len(targets) or not targets:
        raise ValueError(
            f"there are {len(answers)} answers and {len(targets)} targets; give one or more of each"
        )
    each = np.stack([_counts(answers, place, target, classes) for place, target in enumerate(targets)])
    right, actual, predicted = together = each.sum(axis=0)
    of_classes = intersection_over_union(together)
    occurs = actual > 0
    if occurs[1:].any():
        score = float(of_classes[1:][occurs[1:]].mean())
        interval = _bootstrap(each, np.random.default_rng(seed))
    else:
        score = float(not predicted[1:].any())
        interval = (0.0, 1.0)
    images = (each[:, 1] > 0).sum(axis=0)
    total = int(actual.sum())
    return Evaluation(
        metric=METRIC,
        score=score,
        interval=interval,
        total=len(targets),
        classes=tuple(
            {"name": name, "actual": int(images[c]), "score": float(of_classes[c]) if occurs[c] else None}
            for c, name in enumerate(classes, start=1)
        ),
        details={
            "pixel accuracy": float(right.sum() / total) if total else None,
            "intersection over union of the background": float(of_classes[0]) if occurs[0] else None,
        },
    )


def intersection_over_union(counts: NDArray[Any]) -> NDArray[np.float64]:
    """(…, values) from how many pixels are rightly, truly and said to be of each value, (…, 3, values).

    NaN for a value that does not occur.
    """
    right, actual, predicted = (counts[..., place, :].astype(np.float64) for place in range(3))
    result: NDArray[np.float64] = np.where(
        actual > 0, right / np.maximum(actual + predicted - right, 1), np.nan
    )
    return result


def _counts(
    answers: MaskAnswers, place: int, target: MaskTarget, classes: Sequence[str]
) -> NDArray[np.int64]:
    """(3, values) how many pixels are rightly, truly and said to be of each value: the background, then `classes`."""
    said = answers.label_map(place)
    actual = label_map(target, classes, said.shape[1], said.shape[0])
    counted = actual != IGNORED
    if not answers.background:
        counted &= actual != BACKGROUND
    # The learner's classes may be others than those asked for now, or in another order.
    values = {name: value for value, name in enumerate(classes, start=1)}
    translated = np.array([BACKGROUND, *(values.get(name, BACKGROUND) for name in answers.classes)], np.uint8)
    said, actual = translated[said[counted]], actual[counted]
    return np.stack(
        [np.bincount(found, minlength=len(classes) + 1) for found in (actual[said == actual], actual, said)]
    )


def _bootstrap(each: NDArray[np.int64], rng: np.random.Generator) -> tuple[float, float]:
    """95 % confidence interval of the mean over the classes. each: (images, 3, values)."""
    weights = rng.multinomial(len(each), np.full(len(each), 1 / len(each)), size=BOOTSTRAP_SAMPLES)
    of_samples = weights.astype(np.float64) @ each.reshape(len(each), -1)
    of_classes = intersection_over_union(of_samples.reshape(-1, *each.shape[1:]))[:, 1:]
    occurs = ~np.isnan(of_classes)
    some = occurs.any(axis=1)
    means = np.where(occurs, of_classes, 0)[some].sum(axis=1) / occurs[some].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
