import tracemalloc

import numpy as np
import pytest

from backend.learners.segmentation import label_map
from backend.targets import Bitmap, MaskTarget, Polygon
from tests.learners.drawn_scenes import bitmap

CLASSES = ("road", "car")
SQUARE = ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75))


def target(*regions: Polygon | Bitmap) -> MaskTarget:
    return MaskTarget(regions, 8, 8)


def test_background_classes_and_what_is_ignored() -> None:
    left, top = np.zeros((2, 8, 8), bool)
    left[:, :4] = top[:2] = True
    values = label_map(
        target(bitmap("car", left), bitmap(None, top), bitmap("bus", ~left & ~top)), CLASSES, 8, 8
    )
    assert values.dtype == np.uint8 and values.shape == (8, 8)
    assert (values[:2] == 255).all()
    assert (values[2:, :4] == 2).all()
    assert (values[2:, 4:] == 255).all()  # a class that is no longer asked for
    assert (label_map(target(), CLASSES, 3, 2) == np.zeros((2, 3))).all()


def test_later_regions_cover_earlier_ones() -> None:
    everywhere = np.ones((8, 8), bool)
    values = label_map(target(bitmap("road", everywhere), Polygon("car", SQUARE)), CLASSES, 8, 8)
    expected = np.ones((8, 8), np.uint8)
    expected[2:6, 2:6] = 2
    assert values.tolist() == expected.tolist()
    values = label_map(target(Polygon("car", SQUARE), bitmap("road", everywhere)), CLASSES, 8, 8)
    assert (values == 1).all()


def test_polygons_at_any_resolution() -> None:
    for width, height in ((8, 8), (40, 20), (4, 100)):
        values = label_map(target(Polygon("road", SQUARE)), CLASSES, width, height)
        assert values.sum() == width * height / 4
        assert (values[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] == 1).all()
    concave = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5), (0.0, 1.0))
    assert label_map(target(Polygon("road", concave)), CLASSES, 200, 200).mean() == pytest.approx(
        0.75, abs=0.01
    )


def test_bitmaps_of_another_size_are_read_at_the_centres_of_the_pixels() -> None:
    full = np.zeros((6, 9), bool)
    full[1, 4] = True  # the centre of the upper of two halves, the middle of three thirds
    assert label_map(target(bitmap("car", full)), CLASSES, 3, 2).tolist() == [[0, 2, 0], [0, 0, 0]]
    enlarged = label_map(target(bitmap("car", full)), CLASSES, 18, 12)
    assert (enlarged == np.kron(full, np.full((2, 2), 2))).all()


@pytest.mark.parametrize("points", [(), ((0.5, 0.5),), ((0.1, 0.1), (0.9, 0.9))])
def test_polygons_without_an_inside(points: tuple[tuple[float, float], ...]) -> None:
    assert not label_map(target(Polygon("car", points)), CLASSES, 8, 8).any()


def test_degenerate_regions() -> None:
    outside = ((-0.5, -0.5), (1.5, -0.5), (1.5, 1.5), (-0.5, 1.5))
    assert (label_map(target(Polygon("car", outside)), CLASSES, 8, 8) == 2).all()
    nothing = bitmap("car", np.zeros((4, 4), bool))
    assert not label_map(target(nothing), CLASSES, 8, 8).any()
    dot = bitmap("car", np.ones((1, 1), bool))
    assert (label_map(target(dot), CLASSES, 5, 4) == 2).all()
    assert label_map(MaskTarget((dot,), 1, 1), CLASSES, 1, 1).tolist() == [[2]]


def test_bitmaps_whose_run_lengths_do_not_fit() -> None:
    wrong = Bitmap("car", bitmap("car", np.ones((20, 20), bool)).counts, 4, 4)
    with pytest.raises(ValueError, match="do not fit its 4 × 4 pixels"):
        label_map(target(wrong), CLASSES, 8, 8)


def test_more_classes_than_a_map_holds() -> None:
    with pytest.raises(ValueError, match="there are 255 classes"):
        label_map(target(), [str(number) for number in range(255)], 8, 8)


def test_large_bitmaps_are_decoded_one_at_a_time() -> None:
    width, height = 8000, 6250
    full = np.zeros((height, width), bool)
    regions = []
    for place in range(6):
        full[:] = False
        full[place * 1000 : place * 1000 + 1000] = True
        regions.append(bitmap(CLASSES[place % 2], full))
    tracemalloc.start()
    values = label_map(MaskTarget(tuple(regions), width, height), CLASSES, 256, 200)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6  # one mask of 50 million pixels, a byte each
    assert [int(values[row, 100]) for row in (16, 48, 80, 112, 144, 176, 198)] == [1, 2, 1, 2, 1, 2, 0]
