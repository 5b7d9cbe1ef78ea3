"""From the regions that annotators drew to one class a pixel."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as run_lengths

from backend.targets import Bitmap, MaskTarget, Polygon

BACKGROUND = 0
IGNORED = 255

LabelMap = NDArray[np.uint8]
"""(height, width): 0 for the background, 1 and up for the classes in their order, 255 for what is ignored."""


def label_map(target: MaskTarget, classes: Sequence[str], width: int, height: int) -> LabelMap:
    """What each pixel of an image of `width` × `height` pixels is.

    Regions of a class that is not in `classes`, because it is no longer asked for, are ignored like those without
    a label. One region is decoded at a time, so memory is that of the largest. Raises ValueError for more than 254
    classes and for a bitmap whose run lengths do not fit its size.
    """
    if len(classes) >= IGNORED:
        raise ValueError(f"there are {len(classes)} classes; a label map holds at most {IGNORED - 1}")
    values = {name: value for value, name in enumerate(classes, start=1)}
    result = np.full((height, width), BACKGROUND, np.uint8)
    for region in target.regions:
        covered = (
            _outlined(region, width, height) if isinstance(region, Polygon) else _drawn(region, width, height)
        )
        result[covered] = IGNORED if region.label is None else values.get(region.label, IGNORED)
    return result


def _outlined(region: Polygon, width: int, height: int) -> NDArray[np.bool_]:
    """(height, width) which pixels are inside."""
    if len(region.points) < 3:
        return np.zeros((height, width), np.bool_)
    corners = (np.array(region.points, np.float64) * (width, height)).ravel().tolist()
    encoded = run_lengths.frPyObjects([corners], height, width)
    covered: NDArray[np.bool_] = run_lengths.decode(encoded)[:, :, 0].astype(np.bool_)
    return covered


def _drawn(region: Bitmap, width: int, height: int) -> NDArray[np.bool_]:
    """(height, width) whether the pixel of the bitmap beneath the centre of each pixel is set."""
    try:
        full = run_lengths.decode({"size": [region.height, region.width], "counts": region.counts.encode()})
    except ValueError as error:
        raise ValueError(
            f"the run lengths of a region do not fit its {region.width} × {region.height} pixels"
        ) from error
    rows = ((np.arange(height) + 0.5) * (region.height / height)).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * (region.width / width)).astype(np.int64)
    covered: NDArray[np.bool_] = full[np.ix_(rows, columns)].astype(np.bool_)
    return covered
