"""Results of PolygonLabels, BrushLabels and BitmaskLabels ↔ regions of an image.

The formats: https://labelstud.io/tags/polygonlabels, https://labelstud.io/tags/brushlabels and
https://labelstud.io/tags/bitmasklabels
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pycocotools import mask as coco

from backend.labelstudio import bitmask, brush
from backend.labelstudio.agreement import medoid
from backend.labelstudio.control import Control
from backend.labelstudio.outlines import outlines
from backend.labelstudio.pixels import bitmap, edges_of, filled, resized, rows, run_lengths
from backend.labelstudio.regions import (
    MAX_PIXELS,
    clipped,
    is_asked,
    known_labels,
    label_value,
    number,
    percent,
    regions_of,
    size_of,
    written,
)
from backend.targets import Bitmap, MaskTarget, Polygon, Prediction

OUTLINED = 2048  # pixels of the longer side of a mask when its outline is drawn: finer than a hand
COMPARED = 2048  # the same, when annotators are compared
UNKNOWN_SIZE = (1024, 1024)  # pixels at which they are where none of them tells the image's size
LONGEST = 1_000  # sides of the image that a polygon's outline may be long: its pixels are listed one by one

Region = Polygon | Bitmap


def read(result: Sequence[Any], control: Control) -> MaskTarget | None:
    """The regions of one annotation: none at all says that all is background; none that is usable tells nothing.

    Left out are an open polygon, one of fewer than 3 points or with an endless outline, an empty mask, and run lengths
    or a picture that cannot be read or are of another size. A region without a label, or whose label the config no
    longer has, is kept as one to be ignored; of several labels, the first counts. Corners of a polygon outside the
    image are moved to its edge.
    """
    regions: list[Region] = []
    size = None
    for given in regions_of(result, control.name, control.to_name):
        region = _region(given, control)
        if region is not None:
            regions.append(region)
            size = size or size_of(given)
    if is_asked(result, control.name) and all(region.label is None for region in regions):
        return None
    width, height = size or (0, 0)
    return MaskTarget(tuple(regions), width, height)


def combine(answers: Sequence[MaskTarget], control: Control) -> MaskTarget:
    """The answer that agrees most with the others: by the mean over classes of intersection over union."""
    if len(answers) == 1:
        return answers[0]
    width, height = next(((one.width, one.height) for one in answers if one.width), UNKNOWN_SIZE)
    width, height = _at_most(width, height, COMPARED)
    masks = [_classes(answer, width, height) for answer in answers]
    chosen, agreement = medoid(range(len(answers)), lambda i, j: _mean_overlap(masks[i], masks[j]))
    return replace(answers[chosen], annotators=len(answers), agreement=agreement)


def write(control: Control, prediction: Prediction) -> list[dict[str, Any]]:
    """The regions in the control's own tag; for PolygonLabels, a bitmap becomes a polygon for each of its parts.

    A bitmap without a pixel is left out.
    Raises ValueError for what Label Studio's prediction import would drop in silence.
    """
    target = prediction.target
    if not isinstance(target, MaskTarget):
        raise ValueError(f"{control.name} takes regions, not {type(target).__name__}")
    width, height = prediction.size or (target.width, target.height)
    if width < 1 or height < 1:
        raise ValueError("the width and height of the image must be given")
    values = [
        (value | label_value(control, region.label), score)
        for region, score in zip(target.regions, prediction.confidences, strict=True)
        for value in _values(region, control, width, height)
    ]
    if control.tag == "PolygonLabels" and any(isinstance(region, Bitmap) for region in target.regions):
        # An outline also covers the holes in its region: what is in them must come later.
        values.sort(key=lambda each: -_area(each[0]["points"]))
    return [written(control, value, score, (width, height)) for value, score in values]


def _region(given: Mapping[str, Any], control: Control) -> Region | None:
    value = given["value"]
    label = next(iter(known_labels(given, control)), None)
    try:
        match control.tag:
            case "PolygonLabels":
                return _polygon(value, label)
            case "BrushLabels":
                return _brush(value, label, size_of(given))
            case _:
                return _bitmask(value, label)
    except ValueError:
        return None


def _polygon(value: Mapping[str, Any], label: str | None) -> Polygon | None:
    points = value.get("points")
    if not isinstance(points, list) or value.get("closed") is False:
        return None
    corners = []
    for point in points:
        x, y = map(number, point) if isinstance(point, list) and len(point) == 2 else (None, None)
        if x is None or y is None:
            return None
        corners.append((clipped(x / 100), clipped(y / 100)))
    return Polygon(label, tuple(corners)) if len(set(corners)) >= 3 and _length(corners) <= LONGEST else None


def _length(corners: Sequence[tuple[float, float]]) -> float:
    """Of the outline, in sides of the image."""
    x, y = np.abs(np.diff(np.array([*corners, corners[0]]), axis=0)).T
    return float(np.maximum(x, y).sum())


def _brush(value: Mapping[str, Any], label: str | None, size: tuple[int, int] | None) -> Bitmap | None:
    rle = value.get("rle")
    if not isinstance(rle, list) or size is None:
        return None
    width, height = size
    edges = brush.decode(rle, width * height)
    return bitmap(label, filled(edges, width, height), width, height) if len(edges) else None


def _bitmask(value: Mapping[str, Any], label: str | None) -> Bitmap | None:
    url = value.get("imageDataURL")
    if not isinstance(url, str):
        return None
    picture = bitmask.decode(url, MAX_PIXELS)
    region = bitmap(label, bitmask.opaque(picture), picture.width, picture.height)
    return region if coco.area(run_lengths(region)) else None


def _values(region: Region, control: Control, width: int, height: int) -> Iterator[dict[str, Any]]:
    """A region in a control's format: for polygons one for each part, else at most one."""
    if control.tag == "PolygonLabels":
        for points in _outlines(region, width, height):
            yield {"points": [[percent(x), percent(y)] for x, y in points], "closed": True}
    elif len(edges := edges_of(region, width, height)):
        if control.tag == "BrushLabels":
            yield {"format": "rle", "rle": brush.encode(edges, width * height)}
        else:
            yield {"imageDataURL": bitmask.encode(filled(edges, width, height), width, height)}


def _outlines(region: Region, width: int, height: int) -> Iterator[Sequence[tuple[float, float]]]:
    """The corners of polygons, in shares of the image."""
    if isinstance(region, Polygon):
        if len(set(region.points)) < 3:
            raise ValueError(f"a polygon needs three corners, not {region.points}")
        yield region.points
        return
    width, height = _at_most(region.width, region.height, OUTLINED)
    mask = np.concatenate(list(rows(region, width, height)))
    for outline in outlines(mask):
        yield [(x, y) for x, y in (outline / (width, height)).tolist()]


def _at_most(width: int, height: int, longest: int) -> tuple[int, int]:
    """The size, reduced so that the longer side has at most so many pixels."""
    reduction = max(1.0, max(width, height) / longest)
    return max(1, round(width / reduction)), max(1, round(height / reduction))


def _area(points: Sequence[Sequence[float]]) -> float:
    """By the trapezoid formula, times 2."""
    x, y = np.array(points).T
    return float(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)))


def _classes(target: MaskTarget, width: int, height: int) -> dict[str, Any]:
    """Class → all that is of it, in COCO's run lengths."""
    masks: dict[str, list[Any]] = {}
    for region in target.regions:
        if region.label is not None:
            masks.setdefault(region.label, []).append(run_lengths(resized(region, width, height)))
    return {label: coco.merge(parts) for label, parts in masks.items()}


def _mean_overlap(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Intersection over union, the mean over the classes that either has; 1 if none."""
    overlaps = []
    for label in sorted(one.keys() | other.keys()):
        pair = [masks[label] for masks in (one, other) if label in masks]
        shared = coco.area(coco.merge(pair, intersect=True)) if len(pair) == 2 else 0
        overlaps.append(shared / max(1, coco.area(coco.merge(pair))))
    return float(np.mean(overlaps)) if overlaps else 1.0
