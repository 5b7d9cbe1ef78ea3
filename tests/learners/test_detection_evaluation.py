"""Mean average precision against pycocotools, which defines it, and by hand."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from backend.learners.detection import BoxAnswers, evaluate_boxes
from backend.learners.detection.answers import Boxes
from backend.learners.detection.evaluation import best_threshold, match
from backend.targets import Box, BoxTarget

CLASSES = ("cat", "dog", "bird")


def random_boxes(rng: np.random.Generator, images: int) -> tuple[list[Boxes], list[Boxes]]:
    """Found and true boxes that overlap more or less, with scores that often tie."""
    found, actual = [], []
    for _ in range(images):
        true = rng.integers(0, 9)
        corners = rng.integers(0, 60, size=(true, 2))
        places = np.concatenate([corners, corners + rng.integers(5, 30, size=(true, 2))], axis=1)
        labels = rng.integers(0, 3, size=true)
        actual.append(Boxes(places.astype(float), labels, np.ones(true)))
        near = rng.integers(0, true, size=rng.integers(0, 15)) if true else np.empty(0, np.int64)
        shift = rng.integers(-3, 4, size=(len(near), 4))
        moved = places[near] + shift
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        seen = np.where(rng.random(len(near)) < 0.8, labels[near], rng.integers(0, 3, size=len(near)))
        scores = (
            1 - np.abs(shift).sum(axis=1) / 12 - 0.3 * (seen != labels[near]) + rng.normal(0, 0.2, len(near))
        )
        found.append(Boxes(moved.astype(float), seen, np.round(20 * scores.clip(0.05, 1)) / 20))
    return found, actual


def by_coco(found: list[Boxes], actual: list[Boxes]) -> np.ndarray:
    """(classes, overlaps) average precision as COCOeval has it, NaN where there is no true box."""
    truth, results = COCO(), []
    annotations = [
        {"image_id": image, "category_id": int(label) + 1, "bbox": wide(place), "area": 1.0, "iscrowd": 0}
        for image, boxes in enumerate(actual)
        for place, label in zip(boxes.places, boxes.labels, strict=True)
    ]
    truth.dataset = {
        "info": {},
        "images": [{"id": image} for image in range(len(actual))],
        "annotations": [annotation | {"id": i + 1} for i, annotation in enumerate(annotations)],
        "categories": [{"id": i + 1} for i in range(3)],
    }
    results = [
        {"image_id": image, "category_id": int(label) + 1, "bbox": wide(place), "score": float(score)}
        for image, boxes in enumerate(found)
        for place, label, score in zip(boxes.places, boxes.labels, boxes.scores, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 2].copy()  # of all areas, at most 100 boxes an image
    precision[precision < 0] = np.nan
    return precision.mean(axis=1).T


def wide(place: np.ndarray) -> list[float]:
    left, top, right, bottom = map(float, place)
    return [left, top, right - left, bottom - top]


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 12), st.integers(0, 10**6))
def test_the_same_as_cocoeval(images: int, seed: int) -> None:
    found, actual = random_boxes(np.random.default_rng(seed), images)
    if not any(len(boxes.labels) for boxes in found):
        return  # COCO cannot be given no result
    ours = np.concatenate([one.average_precision() for one in match(found, actual, 3)])
    np.testing.assert_allclose(ours, by_coco(found, actual), atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 8), st.integers(0, 10**6))
def test_an_image_that_counts_twice_is_there_twice(images: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    found, actual = random_boxes(rng, images)
    found = [
        boxes._replace(scores=rng.random(len(boxes.scores))) for boxes in found
    ]  # the order of ties is arbitrary
    times = rng.integers(0, 3, size=(2, images))
    weighted = [one.average_precision(times.astype(float)) for one in match(found, actual, 3)]
    for sample, counts in enumerate(times):
        repeated = [i for i, count in enumerate(counts) for _ in range(count)]
        again = match([found[i] for i in repeated], [actual[i] for i in repeated], 3)
        for one, other in zip(weighted, again, strict=True):
            np.testing.assert_allclose(one[sample], other.average_precision()[0], atol=1e-12)


def answers(*images: list[tuple[str, float, float]]) -> BoxAnswers:
    """For each image its boxes: class, left edge and probability. All are 0.2 wide and high."""
    boxes = [(owner, *box) for owner, image in enumerate(images) for box in image]
    committee = np.zeros((2, len(boxes), 3), np.float16)
    for row, (_, name, _, probability) in enumerate(boxes):
        committee[:, row, CLASSES.index(name)] = probability
    return BoxAnswers(
        CLASSES,
        np.full((len(images), 2), 100, np.int32),
        np.array([owner for owner, *_ in boxes], np.int64),
        np.array([[left, 0, left + 0.2, 0.2] for _, _, left, _ in boxes], np.float32).reshape(-1, 4),
        committee,
        np.ones(len(boxes), np.float16),
        np.ones((len(boxes), 1), np.float16),
    )


def target(*boxes: tuple[str, float]) -> BoxTarget:
    return BoxTarget(tuple(Box(name, left, 0, left + 0.2, 0.2) for name, left in boxes))


def test_by_hand() -> None:
    found = answers([("cat", 0.1, 0.9), ("cat", 0.5, 0.75)], [("cat", 0.1, 0.5), ("dog", 0.6, 0.5)], [])
    result = evaluate_boxes(
        found, [target(("cat", 0.1)), target(("cat", 0.11), ("dog", 0.1)), target()], CLASSES
    )
    assert result.metric == "mean average precision at 0.5 overlap"
    # Cats: right, wrong, right, so the precision is 1 up to half of them and then 2/3. The dog is elsewhere.
    cats = (51 + 50 * 2 / 3) / 101
    assert result.score == pytest.approx(cats / 2)
    assert result.total == 3
    assert [c["name"] for c in result.classes] == ["cat", "dog", "bird"]
    assert [c["actual"] for c in result.classes] == [2, 1, 0]
    assert result.classes[0]["score"] == pytest.approx(cats)
    assert result.classes[1]["score"] == 0 and result.classes[2]["score"] is None
    assert 0 <= result.interval[0] <= result.score <= result.interval[1] <= 1
    assert 0 < result.details["mean average precision at overlaps 0.5 to 0.95"] <= result.score


def test_nothing_there() -> None:
    assert evaluate_boxes(answers([], []), [target(), target()], CLASSES).score == 1
    assert evaluate_boxes(answers([("cat", 0.1, 0.9)]), [target()], CLASSES).score == 0


def test_nothing_found() -> None:
    result = evaluate_boxes(answers([], []), [target(("cat", 0)), target()], CLASSES)
    assert result.score == 0 and result.interval == (0, 0)


def test_a_class_that_is_no_longer_asked_for_does_not_count() -> None:
    assert evaluate_boxes(answers([("cat", 0, 0.9)]), [target(("cat", 0), ("cow", 0.5))], CLASSES).score == 1


def test_answers_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="1 answers and 2 targets"):
        evaluate_boxes(answers([]), [target(), target()], CLASSES)
    with pytest.raises(ValueError, match="0 answers"):
        evaluate_boxes(answers([]).take(np.empty(0, np.int64)), [], CLASSES)


def test_the_interval_holds_the_truth_of_many_images() -> None:
    found, actual = random_boxes(np.random.default_rng(1), 400)
    everything = np.nanmean([one.average_precision()[0, 0] for one in match(found, actual, 3)])
    held = 0
    for start in range(0, 400, 25):
        part = slice(start, start + 25)
        of_part = answers(
            *[[(CLASSES[k], 0.0, s) for k, s in zip(b.labels, b.scores, strict=True)] for b in found[part]]
        )
        of_part.places[:] = np.concatenate([boxes.places / 100 for boxes in found[part]])
        targets = [
            BoxTarget(tuple(Box(CLASSES[k], *(p / 100)) for p, k in zip(b.places, b.labels, strict=True)))
            for b in actual[part]
        ]
        low, high = evaluate_boxes(of_part, targets, CLASSES).interval
        assert high - low < 0.5
        held += low <= everything <= high
    assert held >= 13  # of 16, at 95 %


def test_the_threshold_of_the_fewest_mistakes() -> None:
    places = np.array([[0, 0, 1, 1], [5, 5, 6, 6], [8, 8, 9, 9], [2, 2, 3, 3]], dtype=float)
    found = Boxes(places, np.zeros(4, np.int64), np.array([0.9, 0.7, 0.3, 0.2]))
    actual = Boxes(places[[0, 1, 3]], np.zeros(3, np.int64), np.ones(3))
    # F1: 2 * 1 / (1 + 3), 2 * 2 / (2 + 3), 2 * 2 / (3 + 3), 2 * 3 / (4 + 3): of all four boxes the highest.
    assert best_threshold(match([found], [actual], 1)) == pytest.approx(0.2)
    fewer = Boxes(places[:3], found.labels[:3], found.scores[:3])
    assert best_threshold(match([fewer], [actual], 1)) == pytest.approx(0.5)  # between 0.7 and 0.3
    nothing = Boxes(np.empty((0, 4)), np.empty(0, np.int64), np.empty(0))
    assert best_threshold(match([nothing], [actual], 1)) == 0.5
