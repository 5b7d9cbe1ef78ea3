"""Faces cut out of images."""

from collections.abc import Sequence

from PIL import Image

from backend.targets import Box

MARGIN = 0.2  # on each side, as a share of the box's longer one: hair and chin tell people apart too


def face_crops(image: Image.Image, boxes: Sequence[Box]) -> list[Image.Image]:
    """The faces in boxes, in their order: square, with a margin, and no larger than the image.

    Where a square would reach beyond the image it is moved inside; where it does not fit, it is cut off.
    """
    return [image.crop(_square(image.size, box)) for box in boxes]


def _square(size: tuple[int, int], box: Box) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) in pixels, at least one wide and high."""
    width, height = size
    longer = max((box.right - box.left) * width, (box.bottom - box.top) * height)
    side = max(1, round((1 + 2 * MARGIN) * longer))
    left, right = _span((box.left + box.right) / 2 * width, side, width)
    top, bottom = _span((box.top + box.bottom) / 2 * height, side, height)
    return left, top, right, bottom


def _span(centre: float, side: int, length: int) -> tuple[int, int]:
    """`side` pixels around the centre, moved into 0..length, or all of it where it is shorter."""
    start = min(max(0, round(centre - side / 2)), max(0, length - side))
    return start, min(length, start + side)
