"""From images of any size to the canvases that a detector looks at."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.learners.backbones import REDUCTIONS

STEP = REDUCTIONS[-1]  # what the sides of a canvas are multiples of
LEAST_SIDE = 8  # pixels of a side, of images that are hardly more than a line
GREY = 128  # around the image in its canvas


@dataclass(frozen=True)
class PreparedImage:
    """pixels: (height, width, 3). original_size: width and height of the image, in pixels."""

    pixels: NDArray[np.uint8]
    original_size: tuple[int, int]

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width of the canvas that the image fits in."""
        height, width = self.pixels.shape[:2]
        return -(-height // STEP) * STEP, -(-width // STEP) * STEP


def prepare(image: Image.Image, longest_side: int) -> PreparedImage:
    """The image with its longer side of so many pixels, and the other in proportion, but of `LEAST_SIDE` at least."""
    scale = longest_side / max(image.size)
    width, height = (max(LEAST_SIDE, round(side * scale)) for side in image.size)
    resized = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    original = image.info.get("original_size", image.size)
    return PreparedImage(np.asarray(resized), (int(original[0]), int(original[1])))


def stack(images: list[PreparedImage]) -> NDArray[np.uint8]:
    """(n, height, width, 3) images of the same canvas, each in its upper left corner."""
    canvases = np.full((len(images), *images[0].canvas, 3), GREY, np.uint8)
    for canvas, image in zip(canvases, images, strict=True):
        height, width = image.pixels.shape[:2]
        canvas[:height, :width] = image.pixels
    return canvases
