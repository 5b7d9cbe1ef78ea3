"""The bytes of an image file → its pixels."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from io import BytesIO
from typing import IO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

# What browsers show, and so annotators see. Nothing that is a program (EPS, PDF, SVG).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF")

AT_ONCE = (
    100_000_000  # pixels that are being decoded in a process; on their way to RGB, each takes up to 16 bytes
)

SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations with width and height exchanged


class BrokenImage(Exception):
    """Unusable bytes. The message goes on after "The image …": what is wrong, and the remedy."""


def decode(data: bytes, *, max_pixels: int, at_least: int | None = None) -> Image.Image:
    """The image as annotators see it: RGB, upright, on white where it is transparent, its first frame.

    at_least: a shorter side, in pixels, that is enough. A JPEG is then decoded at 1/2, 1/4 or 1/8 of its size
        where that is large enough, in a fraction of the time.
    Where others are being decoded, it waits until all of them are no more than `AT_ONCE` pixels.
    The image's `info` holds its width and height as they are without that, upright, as "original_size".
    Raises BrokenImage.
    """
    with _naming_what_is_wrong(max_pixels):
        image = _opened(BytesIO(data), max_pixels)
        width, height = image.size
        if at_least is not None:
            image.draft("RGB", (at_least, at_least))
        with _room.taken(image.width * image.height):
            image.load()
            turned = _turn_upright(image)
            decoded = _rgb(image)
    decoded.info["original_size"] = (height, width) if turned else (width, height)
    return decoded


class _Room:
    """Pixels that may be decoded at once."""

    def __init__(self, pixels: int) -> None:
        self._pixels = self._free = pixels
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Wait until there is room for so many, or until all of it is free, and take it."""
        pixels = min(pixels, self._pixels)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= pixels)
            self._free -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._free += pixels
                self._changed.notify_all()


_room = _Room(AT_ONCE)


def look(file: IO[bytes], *, max_pixels: int) -> tuple[int, int]:
    """The image's width and height, upright.

    Raises BrokenImage where the first bytes tell already that this is no image, or too large a one.
    """
    with _naming_what_is_wrong(max_pixels):
        image = _opened(file, max_pixels)
        width, height = image.size
        # Of a PNG, Pillow would else read the pixels to find what comes after them.
        sideways = "exif" in image.info and _is_sideways(image)
    return (height, width) if sideways else (width, height)


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


def _turn_upright(image: Image.Image) -> bool:
    """Turn the image as its EXIF says; returns whether width and height changed places."""
    sideways = _is_sideways(image)
    # Pillow turns the image, then rewrites its EXIF, which fails on what some cameras write: no matter here
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)
    return sideways


def _is_sideways(image: Image.Image) -> bool:
    """Whether its EXIF says that width and height change places; EXIF that cannot be read says nothing."""
    with contextlib.suppress(Exception):
        return image.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS
    return False


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
