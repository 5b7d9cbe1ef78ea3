"""What the results of all control tags have in common."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from backend.labelstudio.control import Control

# Digits of a percentage that are written: far below a pixel, and above the noise of dividing and multiplying by 100.
DIGITS = 10
MAX_SIDE = 1_000_000  # pixels that an image may have in a row or column
MAX_PIXELS = 200_000_000  # and in all


def regions_of(result: Sequence[Any], name: str, to_name: str) -> Iterator[Mapping[str, Any]]:
    """The regions that a control gave on its image, in order."""
    for region in result:
        if (
            isinstance(region, Mapping)
            and region.get("from_name") == name
            and region.get("to_name") == to_name
            and isinstance(region.get("value"), Mapping)
        ):
            yield region


def is_asked(result: Sequence[Any], name: str) -> bool:
    """Whether a control gave any region, be it readable or not."""
    return any(isinstance(region, Mapping) and region.get("from_name") == name for region in result)


def known_labels(region: Mapping[str, Any], control: Control) -> list[str]:
    """Its labels that the config still has; each once."""
    labels = region["value"].get(control.tag.lower())
    if not isinstance(labels, list):
        return []
    return [label for label in dict.fromkeys(filter(_is_text, labels)) if label in control.classes]


def size_of(region: Mapping[str, Any]) -> tuple[int, int] | None:
    """Width and height in pixels of the image that a region was drawn on, upright; None beyond any image's."""
    width, height = (_pixels(region.get(name)) for name in ("original_width", "original_height"))
    return (width, height) if width and height and width * height <= MAX_PIXELS else None


def number(value: Any) -> float | None:
    """A finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        value = float(value)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def clipped(share: float) -> float:
    return min(1.0, max(0.0, share))


def percent(share: float) -> float:
    """A share of the image's width or height in Label Studio's unit. Raises ValueError outside the image."""
    if not 0 <= share <= 1:
        raise ValueError(f"a place must be in the image, from 0 to 1, not at {share}")
    return round(100 * share, DIGITS)


def written(
    control: Control, value: Mapping[str, Any], score: float, size: tuple[int, int] | None = None
) -> dict[str, Any]:
    """A region of a prediction's `result`.

    score: confidence in [0, 1]; Label Studio keeps it on the region. size: of the original image, for regions on it.
    Raises ValueError for a score that Label Studio would not take.
    """
    score = round(float(score), 4)
    if not 0 <= score <= 1:
        raise ValueError(f"the score must be in [0, 1], not {score}")
    region: dict[str, Any] = {
        "from_name": control.name,
        "to_name": control.to_name,
        "type": control.tag.lower(),
        "value": dict(value),
        "score": score,
    }
    if size is not None:
        region |= {"original_width": size[0], "original_height": size[1], "image_rotation": 0}
    return region


def label_value(control: Control, label: str | None) -> dict[str, list[str]]:
    """The label of a region, as part of its value. Raises ValueError where the config has no such label."""
    if label not in control.classes:
        raise ValueError(f"{control.name} has no class {label!r}: read the labeling config again")
    return {control.tag.lower(): [label]}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _pixels(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_SIDE else None
