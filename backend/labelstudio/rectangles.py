"""Results of RectangleLabels ↔ boxes.

The format: https://labelstud.io/tags/rectanglelabels
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
COMPARED = 2_000  # boxes of an annotation, at the most, that are compared with another's

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
    ones, others = _compared(one.boxes), _compared(other.boxes)
    total = len(ones) + len(others)
    if not total:
        return 1.0
    mine, theirs = _edges_by_label(ones), _edges_by_label(others)
    return 2 * sum(_matches(mine[label], theirs[label]) for label in mine.keys() & theirs.keys()) / total


def _compared(boxes: Sequence[Box]) -> Sequence[Box]:
    """Those that stand for all: the topmost, for annotators draw the same objects in orders of their own."""
    return boxes if len(boxes) <= COMPARED else sorted(boxes, key=lambda box: box.top)[:COMPARED]


def _edges_by_label(boxes: Sequence[Box]) -> dict[str, NDArray[np.float64]]:
    """The edges of each label's boxes, (boxes, 4)."""
    edges: defaultdict[str, list[Edges]] = defaultdict(list)
    for box in boxes:
        edges[box.label].append((box.left, box.top, box.right, box.bottom))
    return {label: np.array(of_it) for label, of_it in edges.items()}


def _matches(ones: NDArray[np.float64], others: NDArray[np.float64]) -> int:
    """How many boxes of the one, (n, 4), have one of the other, (m, 4), to themselves, the most overlapping first."""
    overlaps = _overlaps(ones, others).ravel()
    pairs = np.flatnonzero(overlaps >= SAME_OBJECT)
    rows, columns = np.divmod(pairs[np.argsort(-overlaps[pairs], kind="stable")], len(others))
    matched: set[int] = set()
    taken: set[int] = set()
    for row, column in zip(rows.data, columns.data, strict=True):
        if row not in matched and column not in taken:
            matched.add(row)
            taken.add(column)
    return len(matched)


def _overlaps(ones: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of each pair, (n, m), of boxes (n, 4) and (m, 4)."""
    a, b = ones.T[:, :, None], others.T[:, None]
    width = np.clip(np.minimum(a[2], b[2]) - np.maximum(a[0], b[0]), 0, None)
    height = np.clip(np.minimum(a[3], b[3]) - np.maximum(a[1], b[1]), 0, None)
    shared = width * height
    areas = [(edges[2] - edges[0]) * (edges[3] - edges[1]) for edges in (a, b)]
    overlaps: NDArray[np.float64] = shared / (areas[0] + areas[1] - shared)
    return overlaps
