"""What COCO's annotations say of one image: boxes, and regions as polygons or run lengths.

The format: https://cocodataset.org/#format-data
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from backend.simulation.datasets.errors import DatasetError
from backend.simulation.datasets.truths import box_of, is_place
from backend.targets import Bitmap, BoxTarget, MaskTarget

Annotation = tuple[str, Mapping[str, Any]]  # with the name of its category
Shape = tuple[NDArray[np.float64], ...] | str  # polygons (points, 2), or COCO's compressed run lengths

# A polygon reaches so many times the image's size out of it at most: its outline takes memory wherever it runs.
FAR = 1


def boxes_of(annotations: Sequence[Annotation], size: tuple[int, int]) -> BoxTarget:
    """The boxes of an image of this width and height; that of the region where an annotation has none of its own.

    Crowds, which stand for many objects, and boxes without a part in the image are left out.

    Raises DatasetError, to go on after the image's name, for what is no box.
    """
    boxes = []
    for label, annotation in annotations:
        if annotation.get("iscrowd"):
            continue
        left, top, width, height = _bbox(annotation, size)
        box = box_of(label, (left, top, left + width, top + height), size)
        if box is not None:
            boxes.append(box)
    return BoxTarget(tuple(boxes))


@dataclass(frozen=True, slots=True)
class Regions:
    """The regions of an image, made bitmaps when they are asked for."""

    labels: tuple[str, ...]
    shapes: tuple[Shape, ...]
    width: int
    height: int

    def read(self) -> MaskTarget:
        regions = (
            Bitmap(label, _run_lengths(shape, self.width, self.height), self.width, self.height)
            for label, shape in zip(self.labels, self.shapes, strict=True)
        )
        return MaskTarget(tuple(regions), self.width, self.height)

    def identity(self) -> bytes:
        shapes = (
            shape.encode() if isinstance(shape, str) else b"".join(part.tobytes() for part in shape)
            for shape in self.shapes
        )
        return repr((self.labels, self.width, self.height)).encode() + b"\0".join(shapes)


def regions_of(annotations: Sequence[Annotation], size: tuple[int, int]) -> Regions:
    """The regions of an image of this width and height, those of crowds among them. Empty ones are left out.

    Raises DatasetError, to go on after the image's name, for what is no region.
    """
    found = [(label, _shape(annotation, size)) for label, annotation in annotations]
    kept = [(label, shape) for label, shape in found if shape]
    return Regions(tuple(label for label, _ in kept), tuple(shape for _, shape in kept), *size)


def _bbox(annotation: Mapping[str, Any], size: tuple[int, int]) -> list[float]:
    """Left, top, width and height."""
    if annotation.get("bbox") is None and annotation.get("segmentation"):
        shape = _shape(annotation, size)
        counts = _run_lengths(shape, *size) if shape else ""
        box: list[float] = coco_mask.toBbox(_encoded(counts, *size)).tolist()
        return box
    bbox = annotation.get("bbox")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(is_place, bbox)):
        raise _refused(annotation, "bbox", "it must be four numbers: left, top, width and height")
    return bbox


def _shape(annotation: Mapping[str, Any], size: tuple[int, int]) -> Shape:
    """A region; without content where it has no pixel."""
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, Mapping):
        return _checked_run_lengths(annotation, segmentation, size)
    if not isinstance(segmentation, list) or not segmentation:
        raise _refused(annotation, "segmentation", "it must be a list of polygons, or run lengths")
    polygons = []
    for part in segmentation:
        if not isinstance(part, list) or len(part) % 2 or not all(map(is_place, part)):
            raise _refused(annotation, "segmentation", "a polygon must be a list of numbers: x, y, x, y, …")
        points = np.array(part, np.float64).reshape(-1, 2)
        if len(points) > 2:  # else it has no area
            polygons.append(np.clip(points, -FAR * np.array(size), (1 + FAR) * np.array(size)))
    return tuple(polygons)


def _checked_run_lengths(
    annotation: Mapping[str, Any], segmentation: Mapping[str, Any], size: tuple[int, int]
) -> str:
    """pycocotools reads memory that is not its own where they are too few, so they are counted before."""
    width, height = size
    counts = segmentation.get("counts")
    if segmentation.get("size") != [height, width]:
        raise _refused(annotation, "segmentation", f"its size must be the image's, [{height}, {width}]")
    if isinstance(counts, str):
        runs = _unpacked(counts)
    elif isinstance(counts, list) and all(isinstance(run, int) for run in counts):
        runs = counts
    else:
        raise _refused(
            annotation, "segmentation", "its counts must be a list of integers, or a string of COCO's"
        )
    if min(runs, default=-1) < 0 or sum(runs) != width * height:
        raise _refused(annotation, "segmentation", f"its run lengths do not sum to {width} × {height} pixels")
    if not any(runs[1::2]):
        return ""
    if isinstance(counts, str):
        return counts
    encoded = coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)["counts"]
    return str(encoded.decode())


def _unpacked(counts: str) -> list[int]:
    """The lengths in COCO's compressed form: five bits a character, the lowest first; from the third length on, the
    difference to the last but one. Of a text that is none, [-1]."""
    runs: list[int] = []
    value = shift = 0
    for sign in counts:
        bits = ord(sign) - 48
        if not 0 <= bits < 64 or shift > 60:
            return [-1]
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return [-1] if shift else runs


def _run_lengths(shape: Shape, width: int, height: int) -> str:
    if isinstance(shape, str):
        return shape
    parts = coco_mask.frPyObjects([part.ravel() for part in shape], height, width)
    return str(coco_mask.merge(parts)["counts"].decode())


def _encoded(counts: str, width: int, height: int) -> dict[str, Any]:
    return {"size": [height, width], "counts": counts.encode()}


def _refused(annotation: Mapping[str, Any], key: str, why: str) -> DatasetError:
    return DatasetError(
        f"has an annotation (id {annotation.get('id')!r:.20}) whose {key!r} cannot be read: {why}."
    )
