from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_sdk.converter import Converter
from label_studio_sdk.label_interface import LabelInterface

from backend.labelstudio.rectangles import combine
from backend.labelstudio.results import read_target, write_result
from backend.targets import Box, BoxTarget, MaskTarget
from tests.labelstudio.marked import altered, annotation, any_json, config, control, prediction, region
from tests.security.watch import within

CONTROL = control("RectangleLabels")


def rectangle(
    x: Any, y: Any, width: Any, height: Any, rotation: Any = 0, *, labels: Any = ("cat",), **changes: Any
) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": rotation}
    return region(CONTROL, value | {"rectanglelabels": list(labels)}, **changes)


def read(*annotations: Any) -> BoxTarget | None:
    target = read_target(annotations, CONTROL)
    assert target is None or isinstance(target, BoxTarget)
    return target


def boxes(*regions: Any) -> list[tuple[Any, ...]] | None:
    target = read(annotation(*regions))
    if target is None:
        return None
    return [
        (box.label, *(pytest.approx(e) for e in (box.left, box.top, box.right, box.bottom)))
        for box in target.boxes
    ]


def test_a_rectangle_is_a_box_in_shares_of_the_image():
    assert boxes(rectangle(10, 20, 30, 40), rectangle(0, 0, 100, 100, labels=["d"])) == [
        ("cat", 0.1, 0.2, 0.4, 0.6),
        ("d", 0, 0, 1, 1),
    ]


@pytest.mark.parametrize(
    ("rotation", "hull"),
    [
        # of 20 × 20 pixels, at (100, 50) of an image of 200 × 100
        (90, (0.4, 0.5, 0.5, 0.7)),
        (180, (0.4, 0.3, 0.5, 0.5)),
        (270, (0.5, 0.3, 0.6, 0.5)),
        (-90, (0.5, 0.3, 0.6, 0.5)),
        (360, (0.5, 0.5, 0.6, 0.7)),
        (45, (0.5 - math.sqrt(200) / 200, 0.5, 0.5 + math.sqrt(200) / 200, 0.5 + math.sqrt(800) / 100)),
    ],
)
def test_a_rotated_rectangle_is_its_hull(rotation: float, hull: tuple[float, ...]):
    assert boxes(rectangle(50, 50, 10, 20, rotation)) == [("cat", *hull)]


@given(*[st.floats(10, 40)] * 4, st.floats(0, 360))
def test_in_square_images_label_studios_export_to_coco_has_the_same_hull(
    x: float, y: float, width: float, height: float, rotation: float
):
    given = rectangle(x, y, width, height, rotation, size=(100, 100))
    left, top, across, down = Converter.rotated_rectangle(given["value"])
    edges = [min(1, max(0, edge / 100)) for edge in (left, top, left + across, top + down)]
    target = read(annotation(given))
    assert target is not None
    (box,) = target.boxes
    assert [box.left, box.top, box.right, box.bottom] == pytest.approx(edges, abs=1e-6)


def test_in_others_it_turns_in_percent_unlike_label_studios_editor():
    *_, width, height = Converter.rotated_rectangle(rectangle(50, 50, 10, 20, 90)["value"])
    assert (width, height) == pytest.approx(
        (20, 10)
    )  # of 200 × 100 pixels: 40 × 10, where 20 × 20 were drawn
    assert boxes(rectangle(50, 50, 10, 20, 90)) == [("cat", 0.4, 0.5, 0.5, 0.7)]


def test_what_is_outside_the_image_is_cut_off():
    assert boxes(rectangle(-10, 90, 30, 40)) == [("cat", 0, 0.9, 0.2, 1)]


UNUSABLE = [
    rectangle(110, 0, 10, 10),
    rectangle(-20, 0, 20, 10),
    rectangle(0, 0, 0, 10),
    rectangle(0, 0, 10, 0),
    rectangle(None, 0, 10, 10),
    rectangle("1", 0, 10, 10),
    rectangle(True, 0, 10, 10),
    rectangle(0, float("nan"), 10, 10),
    rectangle(0, 0, float("inf"), 10),
    rectangle(0, 0, 10, 10**400),
    rectangle(0, 0, 10, 10, "x"),
    rectangle(0, 0, 10, 10, 45, size=(None, 100)),
    rectangle(0, 0, 10, 10, 45, size=(0, 100)),
    rectangle(0, 0, 10, 10, labels=["wolf"]),
    rectangle(0, 0, 10, 10, labels=["dog"]),  # it has an alias, and that is what Label Studio stores
    rectangle(0, 0, 10, 10, labels=[]),
    rectangle(0, 0, 10, 10, labels=[["cat"]]),
    region(CONTROL, {"rectanglelabels": ["cat"]}),
    region(CONTROL, None),
    rectangle(0, 0, 10, 10, to_name="other"),
]


@pytest.mark.parametrize("bad", UNUSABLE, ids=str)
def test_what_is_unusable_is_left_out(bad: Any):
    assert boxes(bad, rectangle(10, 20, 30, 40)) == [("cat", 0.1, 0.2, 0.4, 0.6)]
    assert boxes(bad) is None


def test_an_empty_annotation_says_that_there_is_nothing():
    assert read(annotation()) == BoxTarget(())
    assert read(annotation({"from_name": "mood"}, "broken", None)) == BoxTarget(())
    assert read(annotation(was_cancelled=True)) is None
    assert read(annotation(result=None)) is None
    assert read() is None


def test_a_rectangle_of_two_labels_is_two_boxes():
    assert boxes(rectangle(0, 0, 10, 10, labels=["cat", "d", "cat", "wolf"])) == [
        ("cat", 0, 0, 0.1, 0.1),
        ("d", 0, 0, 0.1, 0.1),
    ]


def test_the_annotator_whom_the_others_agree_with_most():
    left, right = rectangle(0, 0, 20, 20), rectangle(50, 50, 20, 20)
    nearly = rectangle(1, 1, 20, 20)
    target = read(
        annotation(left, by=1),
        annotation(nearly, right, by=2),
        annotation(right, left, by=3),
        annotation(by=4),
    )
    # F1 of 2 and 3 is 1, of 1 with either 2/3, of 4 with anyone 0
    assert target is not None
    assert target.boxes == read(annotation(nearly, right)).boxes  # type: ignore[union-attr]
    assert (target.annotators, target.agreement) == (4, pytest.approx((2 / 3 + 1 + 0) / 3))


@pytest.mark.parametrize(
    ("one", "other", "f1"),
    [
        ([], [], 1),
        ([rectangle(0, 0, 10, 10)], [], 0),
        ([rectangle(0, 0, 10, 10)], [rectangle(0, 0, 10, 10, labels=["d"])], 0),
        ([rectangle(0, 0, 10, 10)], [rectangle(0, 0, 10, 20)], 1),
        ([rectangle(0, 0, 10, 10)], [rectangle(0, 0, 10, 20.1)], 0),
        ([rectangle(0, 0, 10, 10)], [rectangle(0, 0, 10, 10)] * 2, 2 / 3),
        (
            [rectangle(0, 0, 10, 10), rectangle(0, 0, 10, 14)],
            [rectangle(0, 0, 10, 14), rectangle(0, 0, 10, 10)],
            1,
        ),
    ],
)
def test_agreement_is_the_f1_of_matched_boxes(one: list[Any], other: list[Any], f1: float):
    target = read(annotation(*one, by=1), annotation(*other, by=2))
    assert target is not None and target.agreement == pytest.approx(f1)


@pytest.mark.parametrize("step", [1e-3, 0], ids=["in rows", "all the same"])
def test_boxes_by_the_thousands_are_compared_in_time(step: float):
    corners = [(step * (n % 100), step * (n // 100)) for n in range(20_000)]
    one = BoxTarget(tuple(Box("cat", x, y, x + 1e-4, y + 1e-4) for x, y in corners))
    other = BoxTarget(tuple(reversed(one.boxes)))  # drawn in another order
    with within(60, 400):
        target = combine([one, other], CONTROL)
    assert target.boxes == one.boxes  # none is lost
    assert target.agreement == 1


drawn = st.lists(st.tuples(*[st.integers(0, 6)] * 4, st.sampled_from("ab")), max_size=12)


@given(drawn, drawn)
def test_the_most_overlapping_match_first(first: list[Any], second: list[Any]):
    one, other = (
        [Box(label, min(x, u), min(y, v), max(x, u) + 1, max(y, v) + 1) for x, y, u, v, label in boxes]
        for boxes in (first, second)
    )
    pairs = sorted(
        (-overlap(a, b), i, j) for i, a in enumerate(one) for j, b in enumerate(other) if a.label == b.label
    )
    matched: dict[int, int] = {}
    for less, i, j in pairs:
        if -less >= 0.5 and i not in matched and j not in matched.values():
            matched[i] = j
    total = len(one) + len(other)
    target = combine([BoxTarget(tuple(one)), BoxTarget(tuple(other))], CONTROL)
    assert target.agreement == pytest.approx(2 * len(matched) / total if total else 1)


def overlap(a: Box, b: Box) -> float:
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    shared = max(width, 0) * max(height, 0)
    areas = [(box.right - box.left) * (box.bottom - box.top) for box in (a, b)]
    return shared / (sum(areas) - shared)


def test_ground_truth_overrules():
    target = read(annotation(rectangle(0, 0, 10, 10), by=1), annotation(by=2, ground_truth=True))
    assert target == BoxTarget(())


places = st.floats(0, 100).map(lambda place: round(place, 8))
rectangles = st.builds(
    lambda xs, ys, label, score: rectangle(
        min(xs),
        min(ys),
        round(max(xs) - min(xs), 8),
        round(max(ys) - min(ys), 8),
        labels=[label],
        score=score,
    ),
    st.tuples(places, places).filter(lambda xs: xs[0] != xs[1]),
    st.tuples(places, places).filter(lambda ys: ys[0] != ys[1]),
    st.sampled_from(["cat", "d"]),
    st.integers(0, 10000).map(lambda score: score / 10000),
)


@given(st.lists(rectangles, max_size=5))
def test_result_to_target_to_result_changes_nothing(regions: list[dict[str, Any]]):
    target = read(annotation(*regions))
    assert target is not None
    result = write_result(CONTROL, prediction(target, [region["score"] for region in regions]))
    own = ("id", "origin")  # Label Studio's, and none of a prediction
    assert result == [{k: v for k, v in each.items() if k not in own} for each in regions]
    assert (
        LabelInterface(config("RectangleLabels")).validate_prediction({"result": result}, return_errors=True)
        == []
    )
    again = read(annotation(*result))
    assert again == target
    assert BoxTarget.from_json(json.loads(json.dumps(target.to_json()))) == target


def test_what_is_written():
    target = BoxTarget((Box("d", 0.1, 0.2, 0.4, 1 / 3),))
    assert write_result(CONTROL, prediction(target, [0.91234], size=(200, 100))) == [
        {
            "from_name": "box",
            "to_name": "img",
            "type": "rectanglelabels",
            "value": {
                "x": 10.0,
                "y": 20.0,
                "width": 30.0,
                "height": 13.3333333333,
                "rotation": 0,
                "rectanglelabels": ["d"],
            },
            "score": 0.9123,
            "original_width": 200,
            "original_height": 100,
            "image_rotation": 0,
        }
    ]
    assert "original_width" not in write_result(CONTROL, prediction(target, size=None))[0]


@pytest.mark.parametrize(
    ("target", "score", "says"),
    [
        (BoxTarget((Box("wolf", 0, 0, 1, 1),)), 0.5, "no class 'wolf'"),
        (BoxTarget((Box("cat", -0.1, 0, 1, 1),)), 0.5, "in the image"),
        (BoxTarget((Box("cat", 0, 0, 1, 1.1),)), 0.5, "in the image"),
        (BoxTarget((Box("cat", 0, 0, float("nan"), 1),)), 0.5, "in the image"),
        (BoxTarget((Box("cat", 0.5, 0, 0.5, 1),)), 0.5, "a size"),
        (BoxTarget((Box("cat", 0, 0, 1, 1),)), 1.1, "score"),
        (MaskTarget((), 1, 1), 0.5, "takes boxes"),
    ],
)
def test_what_label_studio_would_drop_is_refused(target: Any, score: float, says: str):
    with pytest.raises(ValueError, match=says):
        write_result(CONTROL, prediction(target, [score]))


@given(st.lists(altered(rectangle(10, 10, 20, 20)) | any_json, max_size=3), any_json)
def test_whatever_label_studio_holds_is_read(regions: list[Any], value: Any):
    target = read(annotation(*regions, region(CONTROL, {"x": value, "y": 1, "width": value, "height": 2})))
    for box in target.boxes if target else ():
        assert 0 <= box.left < box.right <= 1 and 0 <= box.top < box.bottom <= 1
