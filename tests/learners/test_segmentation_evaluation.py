import json

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from backend.learners.segmentation import MaskAnswers, evaluate_masks
from backend.learners.segmentation.answers import CompressedMap
from backend.targets import MaskTarget
from tests.learners.drawn_scenes import bitmap

CLASSES = ("road", "car")


def answered(
    *maps: list[list[int]], classes: tuple[str, ...] = CLASSES, background: bool = True
) -> MaskAnswers:
    values = [np.array(one, np.uint8) for one in maps]
    count = len(classes) + background
    return MaskAnswers(
        classes,
        background,
        np.full((2, len(maps), 1, 1, count), 1 / count, np.float16),
        np.full((len(maps), count), 0.5, np.float32),
        tuple(CompressedMap.of(one, (one.shape[1], one.shape[0])) for one in values),
    )


def drawn(values: list[list[int]]) -> MaskTarget:
    """255 is a region without a label."""
    array = np.array(values)
    regions = [
        bitmap(None if value == 255 else CLASSES[value - 1], array == value)
        for value in np.unique(array)
        if value
    ]
    return MaskTarget(tuple(regions), array.shape[1], array.shape[0])


def test_worked_out_by_hand() -> None:
    result = evaluate_masks(
        answered([[1, 1, 2, 2]], [[1, 1, 0, 0]]),
        [drawn([[1, 2, 2, 0]]), drawn([[1, 1, 255, 0]])],
        CLASSES,
    )
    # road: 3 of 4 pixels that are or are said to be road; car: 1 of 3; background: 1 of 2. 5 of 7 are right.
    assert result.metric == "mean intersection over union"
    assert result.score == pytest.approx((3 / 4 + 1 / 3) / 2)
    assert result.classes == (
        {"name": "road", "actual": 2, "score": 3 / 4},
        {"name": "car", "actual": 1, "score": pytest.approx(1 / 3)},
    )
    assert result.details == {
        "pixel accuracy": pytest.approx(5 / 7),
        "intersection over union of the background": pytest.approx(1 / 2),
    }
    assert result.total == 2
    json.dumps(result.to_json(), allow_nan=False)


def test_agrees_with_sklearn() -> None:
    rng = np.random.default_rng(0)
    said, true = rng.integers(3, size=(2, 40, 6, 5))
    result = evaluate_masks(answered(*said.tolist()), [drawn(one) for one in true.tolist()], CLASSES)
    expected = jaccard_score(true.ravel(), said.ravel(), average=None)
    assert [values["score"] for values in result.classes] == pytest.approx(expected[1:].tolist())
    assert result.details["intersection over union of the background"] == pytest.approx(expected[0])
    low, high = result.interval
    assert low < result.score < high
    again = evaluate_masks(answered(*said.tolist()), [drawn(one) for one in true.tolist()], CLASSES)
    assert again == result


def test_the_interval_narrows_with_more_images() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for images in (10, 160):
        said, true = rng.integers(3, size=(2, images, 4, 4)).tolist()
        low, high = evaluate_masks(answered(*said), [drawn(one) for one in true], CLASSES).interval
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_classes_that_do_not_occur_are_left_out_of_the_mean() -> None:
    result = evaluate_masks(answered([[1, 2]]), [drawn([[1, 1]])], CLASSES)
    assert result.score == 0.5
    assert result.classes[1] == {"name": "car", "actual": 0, "score": None}
    assert result.details["intersection over union of the background"] is None


@pytest.mark.parametrize(("said", "score"), [([[0, 0]], 1.0), ([[0, 2]], 0.0)])
def test_images_of_nothing(said: list[list[int]], score: float) -> None:
    result = evaluate_masks(answered(said), [drawn([[0, 0]])], CLASSES)
    assert (result.score, result.interval) == (score, (0, 1))


def test_images_of_which_nothing_counts() -> None:
    result = evaluate_masks(answered([[1, 2]]), [drawn([[255, 255]])], CLASSES)
    assert (result.interval, result.details["pixel accuracy"]) == ((0, 1), None)


def test_a_learner_that_knows_no_background_is_not_measured_on_it() -> None:
    result = evaluate_masks(answered([[1, 1, 2]], background=False), [drawn([[0, 1, 2]])], CLASSES)
    assert (result.score, result.details["pixel accuracy"]) == (1, 1)


def test_classes_that_have_changed_since_the_learner_was_trained() -> None:
    before = answered([[1, 2, 3]], classes=("car", "road", "bus"))
    result = evaluate_masks(before, [drawn([[2, 1, 0]])], CLASSES)
    assert (result.score, result.details["pixel accuracy"]) == (1, 1)


def test_nothing_to_evaluate_on() -> None:
    with pytest.raises(ValueError, match="1 answers and 0 targets"):
        evaluate_masks(answered([[1]]), [], CLASSES)
