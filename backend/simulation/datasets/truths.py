"""The objects and regions in one image, in pixels as data sets have them → what learners are taught."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from backend.targets import Bitmap, Box, BoxTarget, MaskTarget

ANYWHERE = 1e9  # pixels; no image is so large


class Truth(Protocol):
    """What annotators said of one image, read when it is asked for."""

    def read(self) -> BoxTarget | MaskTarget:
        """What they said. Raises DatasetError where it cannot be read."""

    def identity(self) -> bytes:
        """What changes when that does."""


@dataclass(frozen=True, slots=True)
class Given:
    """What is small enough to be kept."""

    target: BoxTarget | MaskTarget

    def read(self) -> BoxTarget | MaskTarget:
        return self.target

    def identity(self) -> bytes:
        return repr(self.target).encode()


def is_place(value: Any) -> bool:
    """Whether it is a number that can be meant as one of pixels."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < ANYWHERE


def box_of(label: str, edges: Sequence[float], size: tuple[int, int]) -> Box | None:
    """The part of a box that is within the image; None: there is none.

    edges: left, top, right, bottom, in pixels; 0 is the outer edge of the first pixel. size: width, height.
    """
    width, height = size
    left, right = (min(max(edge / width, 0.0), 1.0) for edge in edges[::2])
    top, bottom = (min(max(edge / height, 0.0), 1.0) for edge in edges[1::2])
    return Box(label, left, top, right, bottom) if left < right and top < bottom else None


def bitmap_of(label: str | None, pixels: NDArray[np.bool_]) -> Bitmap:
    """The region of the pixels that are true; (height, width), fastest in Fortran's order."""
    height, width = pixels.shape
    encoded: dict[str, Any] = coco_mask.encode(np.asfortranarray(pixels, np.uint8))
    return Bitmap(label, encoded["counts"].decode(), width, height)
