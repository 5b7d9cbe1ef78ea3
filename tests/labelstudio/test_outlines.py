from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pycocotools import mask as coco
from scipy import ndimage

from backend.labelstudio.outlines import outlines, simplified

masks = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(lambda shape: arrays(np.bool_, shape))


def filled(outline: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The pixels of a polygon."""
    mask: NDArray[np.bool_] = coco.decode(coco.frPyObjects([outline.ravel().tolist()], *shape))[:, :, 0] > 0
    return mask


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


def ellipse(height: int, width: int) -> NDArray[np.bool_]:
    y, x = np.mgrid[:height, :width] + 0.5
    return np.asarray((2 * y / height - 1) ** 2 + (2 * x / width - 1) ** 2 <= 0.8)


def test_corners_go_round_the_pixels():
    mask = np.array([[0, 1, 1], [0, 1, 0]], np.uint8)
    (outline,) = outlines(np.kron(mask, np.ones((10, 10), np.uint8)))
    assert outline.tolist() == [[10, 0], [30, 0], [30, 10], [20, 10], [20, 20], [10, 20]]


def test_a_single_pixel_is_still_a_polygon():
    (outline,) = outlines(np.array([[1]], np.uint8))
    assert len(outline) >= 3 and filled(outline, (1, 1)).shape == (1, 1)


def test_nothing_has_no_outline():
    assert outlines(np.zeros((5, 5), np.uint8)) == []


@given(masks)
def test_without_a_limit_every_part_is_kept_within_a_pixel(mask: NDArray[np.bool_]):
    """Pixels that touch at a corner are parts of their own, and so are not one hole."""
    found = outlines(mask.astype(np.uint8), max_points=10_000)
    _, count = ndimage.label(mask)
    assert len(found) == count
    sizes = [len(outline) for outline in found]
    assert not sizes or min(sizes) >= 3
    covered = np.zeros(mask.shape, bool)
    for outline in found:
        covered |= filled(outline, mask.shape)
    # the steps of a slanting edge are smoothed, by less than a pixel
    far_inside = ndimage.binary_erosion(ndimage.binary_fill_holes(mask, np.ones((3, 3))), iterations=2)
    far_outside = ~ndimage.binary_dilation(mask, np.ones((3, 3))) & ~ndimage.binary_fill_holes(mask)
    assert covered[far_inside].all() and not covered[far_outside].any()


@given(masks.filter(np.any), st.integers(3, 8))
def test_the_limit_is_kept(mask: NDArray[np.bool_], limit: int):
    for outline in outlines(np.kron(mask, np.ones((5, 5))).astype(np.uint8), max_points=limit):
        assert 3 <= len(outline) <= limit


@pytest.mark.parametrize("points", [12, 20, 40])
def test_a_round_shape_loses_little(points: int):
    mask = ellipse(300, 500)
    (outline,) = outlines(mask.astype(np.uint8), max_points=points)
    assert len(outline) == points
    assert overlap(filled(outline, mask.shape), mask) > {12: 0.93, 20: 0.97, 40: 0.99}[points]


def test_a_straight_edge_needs_no_more_corners():
    y, x = np.mgrid[:200, :200]
    triangle = (2 * x + y > 100) & (x + y < 300)
    (outline,) = outlines(triangle.astype(np.uint8))
    assert len(outline) <= 12
    assert overlap(filled(outline, triangle.shape), triangle) > 0.98


def test_specks_are_left_out_but_not_a_small_object_alone():
    mask = np.zeros((200, 200), np.uint8)
    mask[100:102, 100:102] = 1
    assert len(outlines(mask)) == 1
    mask[:50, :50] = 1
    mask[150:160, 150:160] = 1
    largest, second = outlines(mask)
    assert largest.max() == 50 and second.min() == 150


def test_most_significant_corners_first():
    square_with_a_notch = np.array([[0, 0], [50, 0], [51, 1], [52, 0], [100, 0], [100, 100], [0, 100]], float)
    assert simplified(square_with_a_notch, 4).tolist() == [[0, 0], [100, 0], [100, 100], [0, 100]]
