from __future__ import annotations

import base64
import json
import tracemalloc
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from label_studio_sdk.converter.brush import decode_rle, mask2rle
from label_studio_sdk.label_interface import LabelInterface
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from backend.labelstudio.labeling_config import Control
from backend.labelstudio.pixels import bitmap, decoded
from backend.labelstudio.results import read_target, write_result
from backend.targets import Bitmap, BoxTarget, MaskTarget, Polygon
from tests.labelstudio.marked import altered, annotation, any_json, config, control, prediction, region

POLYGON, BRUSH, BITMASK = (control(tag) for tag in ("PolygonLabels", "BrushLabels", "BitmaskLabels"))
MASK = np.array([[0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1]], np.uint8)
Mask = NDArray[np.uint8]


def polygon(points: Any, *, labels: Any = ("cat",), **more: Any) -> dict[str, Any]:
    return region(POLYGON, {"points": points, "closed": True, "polygonlabels": list(labels)} | more)


def brush(mask: Mask, *, labels: Any = ("cat",), rle: Any = None, **changes: Any) -> dict[str, Any]:
    value = {
        "format": "rle",
        "rle": mask2rle(mask * 255) if rle is None else rle,
        "brushlabels": list(labels),
    }
    return region(BRUSH, value, **{"size": mask.shape[::-1]} | changes)


def png(mask: Mask) -> str:
    """As Label Studio's editor makes it: black on transparent."""
    pixels = np.zeros((*mask.shape, 4), np.uint8)
    pixels[..., 3] = mask * 255
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def bitmask(url: Any, *, labels: Any = ("cat",), size: Any = (4, 3)) -> dict[str, Any]:
    return region(BITMASK, {"imageDataURL": url, "bitmasklabels": list(labels)}, size=size)


def opacity(url: str) -> NDArray[np.bool_]:
    """What of a bitmask a browser shows."""
    with Image.open(BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGBA"))[..., 3] > 0


def read(asked: Control, *annotations: Any) -> MaskTarget | None:
    target = read_target(annotations, asked)
    assert target is None or isinstance(target, MaskTarget)
    return target


def stored(mask: Mask, label: str | None = "cat") -> Bitmap:
    return bitmap(label, [mask], mask.shape[1], mask.shape[0])


def test_each_tag():
    points = [[0, 0], [50, 0], [50, 100]]
    assert read(POLYGON, annotation(polygon(points))) == MaskTarget(
        (Polygon("cat", ((0, 0), (0.5, 0), (0.5, 1))),), 200, 100
    )
    whole = MaskTarget((stored(MASK, "d"),), 4, 3)
    assert read(BRUSH, annotation(brush(MASK, labels=["d"]))) == whole
    assert read(BITMASK, annotation(bitmask(png(MASK), labels=["d"]))) == whole
    assert coco.decode({"size": [3, 4], "counts": whole.regions[0].counts}).tolist() == MASK.tolist()  # type: ignore[union-attr]


def test_regions_keep_their_order():
    target = read(BRUSH, annotation(brush(MASK), brush(1 - MASK, labels=["d"]), brush(MASK)))
    assert target is not None and [each.label for each in target.regions] == ["cat", "d", "cat"]


def test_a_half_transparent_pixel_is_of_the_mask():
    faint = mask2rle(np.array([[0, 1, 127, 255]], np.uint8))
    target = read(BRUSH, annotation(brush(MASK[:1], rle=faint)))
    assert target is not None and target.regions == (stored(np.array([[0, 1, 1, 1]], np.uint8)),)


@pytest.mark.parametrize("labels", [["wolf"], [], ["dog"], [1]])
def test_a_region_without_a_known_label_is_to_be_ignored(labels: list[Any]):
    target = read(BRUSH, annotation(brush(MASK), brush(1 - MASK, labels=labels)))
    assert target is not None and [each.label for each in target.regions] == ["cat", None]
    assert read(BRUSH, annotation(brush(MASK, labels=labels))) is None


UNUSABLE = {
    "two points": polygon([[0, 0], [1, 1]]),
    "two different points": polygon([[0, 0], [1, 1], [0, 0]]),
    "all outside": polygon([[-5, -5], [-1, -9], [-7, -2]]),
    "no points": polygon([]),
    "points of text": polygon([["0", 0], [1, 1], [0, 1]]),
    "points without number": polygon([[None, 0], [1, 1], [0, 1]]),
    "points of three": polygon([[0, 0, 0], [1, 1, 1], [0, 1, 2]]),
    "points that are none": polygon("abc"),
    "infinite": polygon([[0, 0], [1, float("inf")], [0, 1]]),
    "endless": polygon([[100 * (i % 2), 100 * (i // 2 % 2)] for i in range(1, 2_000)]),
    "open polygon": polygon([[0, 0], [50, 0], [50, 100]], closed=False),
    "empty mask": brush(MASK * 0),
    "longer": brush(MASK, size=(4, 2)),
    "shorter": brush(MASK, size=(4, 4)),
    "no size": brush(MASK, size=(None, 3)),
    "size of text": brush(MASK, size=("4", "3")),
    "size of nothing": brush(MASK, size=(0, 0)),
    "enormous": brush(MASK, size=(10**9, 10**9)),
    "cut off": brush(MASK, rle=mask2rle(MASK)[:10]),
    "no run lengths": brush(MASK, rle=[]),
    "run lengths of text": brush(MASK, rle="abc"),
    "run lengths too large": brush(MASK, rle=[999]),
    "transparent": bitmask(png(MASK * 0)),
    "no data": bitmask("data:image/png;base64,"),
    "no base64": bitmask("data:image/png;base64,%%%"),
    "no PNG": bitmask("data:image/png;base64," + base64.b64encode(b"GIF89a").decode()),
    "a cut PNG": bitmask(png(MASK)[:-60]),
    "an address": bitmask("http://10.0.0.1/mask.png"),
    "a number": bitmask(5),
}


@pytest.mark.parametrize("bad", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_what_is_unusable_is_left_out_and_the_rest_kept(bad: dict[str, Any]):
    asked = next(each for each in (POLYGON, BRUSH, BITMASK) if each.name == bad["from_name"])
    good = {
        "polygon": polygon([[0, 0], [50, 0], [50, 100]]),
        "brush": brush(MASK),
        "bitmask": bitmask(png(MASK)),
    }[asked.name]
    alone = read(asked, annotation(good))
    assert alone is not None
    both = read(asked, annotation(bad, good))
    assert both is not None and both.regions == alone.regions
    assert read(asked, annotation(bad)) is None


@pytest.mark.parametrize("asked", [POLYGON, BRUSH, BITMASK], ids=lambda each: each.tag)
def test_an_empty_annotation_says_that_all_is_background(asked: Control):
    assert read(asked, annotation()) == MaskTarget((), 0, 0)
    assert read(asked, annotation(was_cancelled=True)) is None


def test_a_polygon_stays_in_the_image():
    target = read(POLYGON, annotation(polygon([[-10, 0], [50, 0], [50, 130]])))
    assert target is not None and target.regions == (Polygon("cat", ((0, 0), (0.5, 0), (0.5, 1))),)


def test_the_annotator_whom_the_others_agree_with_most():
    halves = np.zeros((2, 4, 4), np.uint8)
    halves[0, :2], halves[1, 2:] = 1, 1
    target = read(
        BRUSH,
        annotation(brush(halves[0]), by=1),
        annotation(brush(halves[0]), brush(halves[1], labels=["d"]), by=2),
        annotation(brush(halves[0] + halves[1]), by=3),
    )
    # 1 and 2: cat 1, d 0; 1 and 3: cat 1/2; 2 and 3: cat 1/2, d 0
    assert target is not None and target.annotators == 3
    assert target.regions == (stored(halves[0]),)
    assert target.agreement == pytest.approx((1 / 2 + 1 / 2) / 2)


def test_agreement_of_polygons_and_of_nothing():
    square, half = (
        polygon([[0, 0], [100, 0], [100, 100], [0, 100]]),
        polygon([[0, 0], [50, 0], [50, 100], [0, 100]]),
    )
    for other, agreement in ((half, 0.5), (square, 1)):
        target = read(POLYGON, annotation(square, by=1), annotation(other, by=2))
        assert target is not None and target.agreement == pytest.approx(agreement)
    target = read(POLYGON, annotation(by=1), annotation(by=2))
    assert target == MaskTarget((), 0, 0, annotators=2, agreement=1)
    target = read(POLYGON, annotation(square, by=1), annotation(by=2))
    assert target is not None and target.agreement == 0


def test_agreement_of_bitmasks_of_different_sizes():
    large = np.kron(MASK, np.ones((2, 2), np.uint8))
    target = read(BITMASK, annotation(bitmask(png(MASK)), by=1), annotation(bitmask(png(large)), by=2))
    assert target is not None and target.agreement == 1


def test_annotators_of_an_enormous_image_can_be_compared():
    """COCO's tools would take 4 bytes a pixel, of a million times a million."""
    half = polygon([[0, 0], [50, 0], [50, 100], [0, 100]])
    enormous = half | {"original_width": 1_000_000, "original_height": 1_000_000}
    target = read(POLYGON, annotation(enormous, by=1), annotation(enormous, by=2))
    assert target is not None and target.agreement == 1


masks = st.tuples(st.integers(1, 20), st.integers(1, 20)).flatmap(
    lambda shape: st.lists(
        st.tuples(
            arrays(np.uint8, shape, elements=st.integers(0, 1)).filter(np.any), st.sampled_from(["cat", "d"])
        ),
        min_size=1,
        max_size=3,
    )
)
coordinates = st.floats(0, 100).map(lambda place: round(place, 8))
polygons = st.lists(
    st.tuples(
        st.lists(st.tuples(coordinates, coordinates).map(list), min_size=3, max_size=60, unique_by=tuple),
        st.sampled_from(["cat", "d"]),
    ),
    max_size=3,
)


def again(asked: Control, given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The result that is written of what is read of a result; valid, and the same when read once more."""
    target = read(asked, annotation(*given))
    assert target is not None
    result = write_result(asked, prediction(target, size=(200, 100) if asked is POLYGON else None))
    assert LabelInterface(config(asked.tag)).validate_prediction({"result": result}, return_errors=True) == []
    once_more = read(asked, annotation(*result))
    assert once_more is not None and once_more.regions == target.regions
    assert MaskTarget.from_json(json.loads(json.dumps(target.to_json()))) == target
    return result


def kept(given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As a prediction has them."""
    return [{k: v for k, v in each.items() if k not in ("id", "origin")} | {"score": 0.5} for each in given]


@given(masks)
def test_brush_to_target_to_brush_changes_nothing(drawn: list[tuple[Mask, str]]):
    given = [brush(mask, labels=[label]) for mask, label in drawn]
    assert again(BRUSH, given) == kept(given)


@given(polygons)
def test_polygon_to_target_to_polygon_changes_nothing(drawn: list[tuple[list[Any], str]]):
    given = [polygon(points, labels=[label]) for points, label in drawn]
    assert again(POLYGON, given) == kept(given)


@given(masks)
def test_bitmask_to_target_to_bitmask_changes_no_pixel(drawn: list[tuple[Mask, str]]):
    given = [bitmask(png(mask), labels=[label], size=mask.shape[::-1]) for mask, label in drawn]
    result = again(BITMASK, given)
    for (mask, label), each in zip(drawn, result, strict=True):
        assert each["value"]["bitmasklabels"] == [label]
        assert np.array_equal(opacity(each["value"]["imageDataURL"]), mask > 0)


def drawn_mask(result: dict[str, Any]) -> NDArray[np.bool_]:
    """The pixels of a brush result, as Label Studio's own converter draws them."""
    shape = (result["original_height"], result["original_width"], 4)
    return np.asarray(decode_rle(result["value"]["rle"]).reshape(shape)[..., 3] > 0)


def test_a_small_mask_is_enlarged_to_the_image():
    target = MaskTarget((stored(MASK), stored(1 - MASK, "d")), 4, 3)
    first, _ = write_result(BRUSH, prediction(target, size=(8, 9)))
    assert drawn_mask(first).tolist() == (np.kron(MASK, np.ones((3, 2))) > 0).tolist()
    first, _ = write_result(BITMASK, prediction(target, size=(8, 9)))
    assert opacity(first["value"]["imageDataURL"]).tolist() == (np.kron(MASK, np.ones((3, 2))) > 0).tolist()


def test_a_polygon_is_painted_for_a_brush():
    target = MaskTarget((Polygon("cat", ((0, 0), (0.5, 0), (0.5, 1), (0, 1))),), 0, 0)
    (result,) = write_result(BRUSH, prediction(target, size=(10, 4)))
    assert drawn_mask(result).tolist() == [[True] * 5 + [False] * 5] * 4


def test_a_mask_becomes_polygons_that_can_be_edited():
    y, x = np.mgrid[:300, :400]
    ring = (x - 200) ** 2 + (y - 150) ** 2 < 140**2
    disc = (x - 200) ** 2 + (y - 150) ** 2 < 60**2
    target = MaskTarget(
        (stored(disc.astype(np.uint8), "d"), stored((ring & ~disc).astype(np.uint8))), 400, 300
    )
    result = write_result(POLYGON, prediction(target, [0.9, 0.8], size=(4000, 3000)))
    # the ring's outline covers the disc, so that it must come first
    assert [(each["value"]["polygonlabels"], each["score"]) for each in result] == [
        (["cat"], 0.8),
        (["d"], 0.9),
    ]
    assert all(3 <= len(each["value"]["points"]) <= 40 for each in result)
    back = read(POLYGON, annotation(*result))
    assert back is not None and (back.width, back.height) == (4000, 3000)
    outer, inner = (decoded(stored_polygon(each, 400, 300)) > 0 for each in back.regions)
    for found, true in ((outer, ring), (inner, disc)):
        assert (found & true).sum() / (found | true).sum() > 0.97


def stored_polygon(polygon: Polygon | Bitmap, width: int, height: int) -> Bitmap:
    assert isinstance(polygon, Polygon)
    corners = [place for x, y in polygon.points for place in (x * width, y * height)]
    (counts,) = coco.frPyObjects([corners], height, width)
    return Bitmap(polygon.label, counts["counts"].decode(), width, height)


@pytest.mark.parametrize("asked", [POLYGON, BRUSH, BITMASK], ids=lambda each: each.tag)
def test_a_mask_without_a_pixel_is_not_written(asked: Control):
    assert write_result(asked, prediction(MaskTarget((stored(MASK * 0),), 4, 3))) == []


@pytest.mark.parametrize("asked", [POLYGON, BRUSH, BITMASK], ids=lambda each: each.tag)
@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_the_smallest_images(asked: Control, size: tuple[int, int]):
    whole = stored(np.ones(size[::-1], np.uint8))
    (result,) = write_result(asked, prediction(MaskTarget((whole,), *size), size=size))
    target = read(asked, annotation(result))
    assert target is not None and (target.width, target.height) == size
    if asked is not POLYGON:
        assert target.regions == (whole,)


@pytest.mark.parametrize("asked", [BRUSH, BITMASK, POLYGON], ids=lambda each: each.tag)
def test_fifty_megapixels_take_little_memory(asked: Control):
    """In Python's and numpy's memory no more than the mask, its picture as Label Studio keeps it, and some rows."""
    width, height = 8000, 6250
    y, x = np.mgrid[:625, :800]
    small = stored((((x - 400) / 390) ** 2 + ((y - 312) / 300) ** 2 < 1).astype(np.uint8))
    tracemalloc.start()
    (result,) = write_result(asked, prediction(MaskTarget((small,), 800, 625), size=(width, height)))
    target = read(asked, annotation(result))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * width * height
    assert target is not None and (target.width, target.height) == (width, height)
    if asked is not POLYGON:
        share = decoded(target.regions[0]).mean()  # type: ignore[arg-type]
        assert share == pytest.approx(decoded(small).mean(), abs=1e-3)


@pytest.mark.parametrize(
    ("asked", "target", "score", "says"),
    [
        (BRUSH, MaskTarget((stored(MASK, "wolf"),), 4, 3), 0.5, "no class 'wolf'"),
        (BRUSH, MaskTarget((stored(MASK, None),), 4, 3), 0.5, "no class None"),
        (BRUSH, MaskTarget((stored(MASK),), 4, 3), 1.5, "score"),
        (BRUSH, MaskTarget((Bitmap("cat", "abc", 4, 3),), 4, 3), 0.5, "run lengths"),
        (BRUSH, MaskTarget((stored(MASK),), 0, 0), 0.5, "width and height"),
        (BRUSH, BoxTarget(()), 0.5, "takes regions"),
        (POLYGON, MaskTarget((Polygon("cat", ((0, 0), (1, 1))),), 4, 3), 0.5, "three corners"),
        (POLYGON, MaskTarget((Polygon("cat", ((0, 0), (1, 1), (0, 1.2))),), 4, 3), 0.5, "in the image"),
    ],
)
def test_what_label_studio_would_drop_is_refused(asked: Control, target: Any, score: float, says: str):
    count = len(target.regions) if isinstance(target, MaskTarget) else 0
    with pytest.raises(ValueError, match=says):
        write_result(asked, prediction(target, [score] * count, size=None))


@given(
    st.lists(
        altered(polygon([[0, 0], [50, 0], [50, 100]]))
        | altered(brush(MASK))
        | altered(bitmask(png(MASK)))
        | any_json,
        max_size=3,
    ),
    any_json,
)
def test_whatever_label_studio_holds_is_read(regions: list[Any], value: Any):
    more = [polygon(value), polygon([value, value, [1, 1]]), brush(MASK, rle=value), brush(MASK, rle=[value])]
    more += [bitmask(value), brush(MASK, size=(value, 3))]
    for asked in (POLYGON, BRUSH, BITMASK):
        target = read(asked, annotation(*regions, *more), annotation(*more, by=2))
        for each in target.regions if target else ():
            assert each.label in (None, "cat", "d")
