"""Results of Choices, Taxonomy and TextArea, asked for each rectangle ↔ boxes with identities.

Label Studio keeps them as a region of the rectangle control and one of the identity control, which have the same id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from backend.labelstudio.choices import known_names, names_of, value_of
from backend.labelstudio.control import Control
from backend.labelstudio.rectangles import combine, hull, place
from backend.labelstudio.regions import is_asked, regions_of, written
from backend.targets import Box, BoxTarget, Prediction

__all__ = ["combine", "read", "write"]


def read(result: Sequence[Any], control: Control) -> BoxTarget | None:
    """The boxes of one annotation that have an identity; none where there is no box, or None where no box has one.

    What is left out of boxes is as in `rectangles.read`; a box of several identities has the first.
    """
    assert control.boxes is not None
    edges = {
        region["id"]: found
        for region in regions_of(result, control.boxes, control.to_name)
        if isinstance(region.get("id"), str) and (found := hull(region)) is not None
    }
    boxes = []
    for region in regions_of(result, control.name, control.to_name):
        names = known_names(names_of(region, control) or (), control)
        if names and isinstance(region.get("id"), str) and region["id"] in edges:
            boxes.append(Box(names[0], *edges.pop(region["id"])))
    if not boxes and (is_asked(result, control.name) or is_asked(result, control.boxes)):
        return None
    return BoxTarget(tuple(boxes))


def write(control: Control, prediction: Prediction) -> list[dict[str, Any]]:
    """For each box a rectangle, and what says who is in it, unless that is somebody unknown.

    Raises ValueError for what Label Studio's prediction import would drop in silence.
    """
    target = prediction.target
    if not isinstance(target, BoxTarget):
        raise ValueError(f"{control.name} takes boxes, not {type(target).__name__}")
    assert control.boxes is not None
    label = {} if control.box_label is None else {"rectanglelabels": [control.box_label]}
    rectangles = replace(control, name=control.boxes, tag="RectangleLabels" if label else "Rectangle")
    result = []
    for number, (box, score) in enumerate(zip(target.boxes, prediction.confidences, strict=True)):
        regions = [written(rectangles, place(box) | label, score, prediction.size)]
        if box.label:
            value = place(box) | value_of([box.label], control)
            regions.append(written(control, value, score, prediction.size))
        result += [region | {"id": f"{control.boxes}{number}"} for region in regions]
    return result
