"""Label Studio's bitmasks: a PNG as a data URL, whose opaque pixels are the mask."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.labelstudio.pixels import ROWS

PREFIX = "data:image/png;base64,"
TRANSPARENT_AND_OPAQUE = b"\x00\xff"


def decode(url: str, max_pixels: int) -> Image.Image:
    """The picture. Raises ValueError for what is no PNG, or a larger one."""
    if not url.startswith(PREFIX):
        raise ValueError("a bitmask must be a PNG as a data URL")
    try:
        image = Image.open(BytesIO(base64.b64decode(url[len(PREFIX) :], validate=True)), formats=["PNG"])
        if image.width * image.height > max_pixels:
            raise ValueError(f"a bitmask of more than {max_pixels} pixels")
        image.load()
    except (binascii.Error, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"a bitmask that cannot be read ({type(error).__name__})") from None
    return image


def opaque(picture: Image.Image) -> Iterator[NDArray[np.uint8]]:
    """1 where it is not wholly transparent, some rows at a time."""
    for top in range(0, picture.height, ROWS):
        part = picture.crop((0, top, picture.width, min(picture.height, top + ROWS)))
        yield (np.asarray(part.convert("RGBA").getchannel("A")) > 0).astype(np.uint8)


def encode(blocks: Iterable[NDArray[np.uint8]], width: int, height: int) -> str:
    """The data URL of a mask that is given some rows at a time: black where it is 1, transparent where it is 0."""
    image = Image.new("P", (width, height))
    image.putpalette(bytes(6))
    top = 0
    for block in blocks:
        image.paste(Image.fromarray(np.ascontiguousarray(block)), (0, top))
        top += len(block)
    file = BytesIO()
    image.save(file, "PNG", bits=1, transparency=TRANSPARENT_AND_OPAQUE)
    return PREFIX + base64.b64encode(file.getvalue()).decode("ascii")
