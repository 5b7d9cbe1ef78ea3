"""The bytes of an image file → its pixels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from io import BytesIO
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# What browsers show, and so annotators see. Nothing that is a program (EPS, PDF, SVG).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF")


class BrokenImage(Exception):
    """Unusable bytes. The message goes on after "The image …": what is wrong, and the remedy."""


def decode(data: bytes, *, max_pixels: int, at_least: int | None = None) -> Image.Image:
    """The image as annotators see it: RGB, upright, on white where it is transparent, its first frame.

    at_least: a shorter side, in pixels, that is enough. A JPEG is then decoded at 1/2, 1/4 or 1/8 of its size
        where that is large enough, in a fraction of the time.
    Raises BrokenImage.
    """
    with _naming_what_is_wrong(max_pixels):
        image = _opened(BytesIO(data), max_pixels)
        if at_least is not None:
            image.draft("RGB", (at_least, at_least))
        image.load()
        _turn_upright(image)
    return _rgb(image)


def look(file: IO[bytes], *, max_pixels: int) -> None:
    """Raise BrokenImage where the first bytes tell already that this is no image, or too large a one."""
    with _naming_what_is_wrong(max_pixels):
        _opened(file, max_pixels)


def _opened(file: IO[bytes], max_pixels: int) -> Image.Image:
    """The image before its pixels are read."""
    image: Image.Image = Image.open(file, formats=FORMATS)
    width, height = image.size
    if width * height > max_pixels:
        raise Image.DecompressionBombError
    return image


@contextlib.contextmanager
def _naming_what_is_wrong(max_pixels: int) -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError:
        raise BrokenImage(f"is in no known format: give one of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise BrokenImage(f"has more than {max_pixels:,} pixels: make it smaller") from None
    except Exception as error:  # decoders raise whatever broken bytes lead them to
        raise BrokenImage(f"is damaged ({type(error).__name__}): replace it") from None


def _turn_upright(image: Image.Image) -> None:
    # Pillow turns the image, then rewrites its EXIF, which fails on what some cameras write: no matter here
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
