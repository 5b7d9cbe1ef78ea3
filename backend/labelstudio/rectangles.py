"""Results of RectangleLabels ↔ boxes.

The format: https://labelstud.io/tags/rectanglelabels
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from backend.labelstudio.agreement import medoid
from backend.labelstudio.control import Control
from backend.labelstudio.regions import (
    DIGITS,
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
from backend.targets import Box, BoxTarget, Prediction

SAME_OBJECT = 0.5  # intersection over union of two boxes that are taken for one object

Edges = tuple[float, float, float, float]  # left, top, right, bottom


def read(result: Sequence[Any], control: Control) -> BoxTarget | None:
    """The boxes of one annotation: none at all says that there is nothing; none that is usable tells nothing.

    A rotated rectangle becomes its axis-aligned hull, as far as it is in the image. One outside the image, without
    size or number, or whose label the config no longer has is left out.
    """
    boxes = [
        Box(label, *edges)
        for region in regions_of(result, control.name, control.to_name)
        if (edges := hull(region)) is not None
        for label in known_labels(region, control)
    ]
    if not boxes and is_asked(result, control.name):
        return None
    return BoxTarget(tuple(boxes))


def combine(answers: Sequence[BoxTarget], control: Control) -> BoxTarget:
    """The answer that agrees most with the others: by the F1 of its boxes, matched where they overlap by half."""
    chosen, agreement = medoid(answers, _f1)
    return replace(chosen, annotators=len(answers), agreement=agreement)


def write(control: Control, prediction: Prediction) -> list[dict[str, Any]]:
    """Raises ValueError for what Label Studio's prediction import would drop in silence."""
    target = prediction.target
    if not isinstance(target, BoxTarget):
        raise ValueError(f"{control.name} takes boxes, not {type(target).__name__}")
    return [
        written(control, place(box) | label_value(control, box.label), score, prediction.size)
        for box, score in zip(target.boxes, prediction.confidences, strict=True)
    ]


def hull(region: Mapping[str, Any]) -> Edges | None:
    """The edges of a rectangle in shares of the image; None where nothing of it is in the image."""
    value = region["value"]
    x, y, width, height = (number(value.get(name)) for name in ("x", "y", "width", "height"))
    angle = number(value.get("rotation", 0))
    if x is None or y is None or width is None or height is None or angle is None:
        return None
    corners = [(0.0, 0.0), (width, 0.0), (0.0, height), (width, height)]
    if angle % 360:
        size = size_of(region)
        if size is None:
            return None
        corners = [_turned(corner, math.radians(angle), size[0] / size[1]) for corner in corners]
    left, right = (clipped((x + side(dx for dx, _ in corners)) / 100) for side in (min, max))
    top, bottom = (clipped((y + side(dy for _, dy in corners)) / 100) for side in (min, max))
    return (left, top, right, bottom) if left < right and top < bottom else None


def place(box: Box) -> dict[str, float]:
    """Where a box is, in Label Studio's units. Raises ValueError for one outside the image or without size."""
    value = {
        "x": percent(box.left),
        "y": percent(box.top),
        "width": round(100 * (box.right - box.left), DIGITS),
        "height": round(100 * (box.bottom - box.top), DIGITS),
        "rotation": 0,
    }
    percent(box.right), percent(box.bottom)
    if value["width"] <= 0 or value["height"] <= 0:
        raise ValueError(f"a box must have a size, not {box}")
    return value


def _turned(corner: tuple[float, float], angle: float, aspect: float) -> tuple[float, float]:
    """A corner turned clockwise about the top left one.

    Label Studio turns in pixels, and a percent of the width is `aspect` times as many of them as one of the height.
    """
    x, y = corner
    return (
        x * math.cos(angle) - y * math.sin(angle) / aspect,
        x * math.sin(angle) * aspect + y * math.cos(angle),
    )


def _f1(one: BoxTarget, other: BoxTarget) -> float:
    """2 · matches / (boxes of both); boxes of the same label match one to one, the most overlapping first."""
    total = len(one.boxes) + len(other.boxes)
    if not total:
        return 1.0
    if not (one.boxes and other.boxes):
        return 0.0
    overlaps = _overlaps(one.boxes, other.boxes)
    matches = 0
    while overlaps.max() >= SAME_OBJECT:
        row, column = np.unravel_index(overlaps.argmax(), overlaps.shape)
        overlaps[row, :] = overlaps[:, column] = 0
        matches += 1
    return 2 * matches / total


def _overlaps(ones: Sequence[Box], others: Sequence[Box]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Intersection over union of each pair, (ones, others); 0 where their labels differ."""
    a, b = (
        np.array([(box.left, box.top, box.right, box.bottom) for box in boxes]) for boxes in (ones, others)
    )
    lower = np.maximum(a[:, None, :2], b[None, :, :2])
    upper = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(upper - lower, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (a, b)]
    same = np.array([box.label for box in ones])[:, None] == np.array([box.label for box in others])[None]
    return np.where(same, shared / (areas[0][:, None] + areas[1][None] - shared), 0.0)
