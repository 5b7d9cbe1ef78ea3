"""A mask by rows, as Label Studio has it, ↔ COCO's run lengths, which go by columns.

Whatever the size, no more than one whole mask, a byte a pixel, is in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from backend.targets import Bitmap, Polygon

ROWS = 256  # that are looked at in one step


def bitmap(label: str | None, blocks: Iterable[NDArray[np.uint8]], width: int, height: int) -> Bitmap:
    """The region of a mask that is given some rows at a time, 1 within it and 0 elsewhere."""
    mask = np.empty((height, width), np.uint8, order="F")
    row = 0
    for block in blocks:
        mask[row : row + len(block)] = block
        row += len(block)
    return Bitmap(label, coco.encode(mask)["counts"].decode("ascii"), width, height)


def rows(region: Polygon | Bitmap, width: int, height: int) -> Iterator[NDArray[np.uint8]]:
    """The mask of a region at a size, some rows at a time; a bitmap of another size is enlarged or reduced.

    Raises ValueError for a bitmap whose run lengths are not of its size.
    """
    if isinstance(region, Polygon):
        region = rasterized(region, width, height)
    mask = decoded(region)
    down = _nearest(height, region.height)
    across = _nearest(width, region.width)
    for start in range(0, height, ROWS):
        block = mask[down[start : start + ROWS]]
        yield block if width == region.width else block[:, across]


def decoded(region: Bitmap) -> NDArray[np.uint8]:
    """The whole mask of a region, (height, width). Raises ValueError where its run lengths are of another size."""
    try:
        mask: NDArray[np.uint8] = coco.decode(run_lengths(region))
    except ValueError:
        raise ValueError(
            f"the run lengths are not of a mask of {region.width} × {region.height} pixels"
        ) from None
    return mask


def run_lengths(region: Bitmap) -> dict[str, Any]:
    """The region as COCO's own tools take it."""
    return {"size": [region.height, region.width], "counts": region.counts.encode("ascii")}


def rasterized(polygon: Polygon, width: int, height: int) -> Bitmap:
    """The pixels of a polygon, as COCO's own tools draw it."""
    corners = [float(place) for x, y in polygon.points for place in (x * width, y * height)]
    (counts,) = coco.frPyObjects([corners], height, width)
    return Bitmap(polygon.label, counts["counts"].decode("ascii"), width, height)


def edges_of(region: Polygon | Bitmap, width: int, height: int) -> NDArray[np.int64]:
    """Where the mask of a region begins and ends at a size, in turns, row by row, as `brush.encode` takes it."""
    edges = []
    position, inside = 0, 0
    for block in rows(region, width, height):
        flat = np.ascontiguousarray(block).ravel()
        edges.append(np.flatnonzero(np.diff(flat, prepend=np.uint8(inside))) + position)
        position += len(flat)
        inside = int(flat[-1])
    if inside:
        edges.append(np.array([position]))
    return np.concatenate(edges).astype(np.int64)


def filled(edges: NDArray[np.int64], width: int, height: int) -> Iterator[NDArray[np.uint8]]:
    """The mask that begins and ends at these positions, some rows at a time."""
    for start in range(0, height, ROWS):
        stop = min(height, start + ROWS)
        first, last = start * width, stop * width
        before = int(np.searchsorted(edges, first, "right"))
        within = edges[before : np.searchsorted(edges, last, "left")]
        lengths = np.diff(np.concatenate(([first], within, [last])))
        values = (np.arange(len(lengths)) + before) % 2
        yield np.repeat(values.astype(np.uint8), lengths).reshape(stop - start, width)


def _nearest(size: int, other: int) -> NDArray[np.int64]:
    """For each pixel of a side, the one of the other side that its centre is on."""
    return (2 * np.arange(size, dtype=np.int64) + 1) * other // (2 * size)


def resized(region: Polygon | Bitmap, width: int, height: int) -> Bitmap:
    """The pixels of a region at a size. Raises ValueError as `rows` does."""
    if isinstance(region, Polygon):
        return rasterized(region, width, height)
    if (region.width, region.height) == (width, height):
        return region
    return bitmap(region.label, rows(region, width, height), width, height)
