"""From images of any mode and shape to one tensor."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor


def squares(
    images: Sequence[Image.Image], size: int, resampling: Image.Resampling = Image.Resampling.BILINEAR
) -> Tensor:
    """RGB in 0..1, (images, 3, size, size).

    The whole image is squashed into the square rather than cropped: what a task is about may lie at the border.
    """
    pixels = np.stack([_square(image, size, resampling) for image in images])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(255)


def _square(image: Image.Image, size: int, resampling: Image.Resampling) -> NDArray[np.uint8]:
    if image.mode.startswith(("I", "F")):
        image = _eight_bit(image)
    return np.asarray(image.convert("RGB").resize((size, size), resampling, reducing_gap=2.0))


def _eight_bit(image: Image.Image) -> Image.Image:
    """Deep greyscale stretched over its own range: a 12-bit scan in a 16-bit file would come out black."""
    levels = np.nan_to_num(np.asarray(image, np.float64))
    low, high = levels.min(), levels.max()
    return Image.fromarray(((levels - low) * (255 / (high - low or 1))).astype(np.uint8))
