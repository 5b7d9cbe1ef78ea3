from __future__ import annotations

import contextlib
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from backend.labelstudio import image_file
from backend.labelstudio.image_file import FORMATS, BrokenImage, decode

MAX_PIXELS = 1_000_000


def encode(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def gradient(width: int = 64, height: int = 48) -> Image.Image:
    """Darker to the left and to the top, so that every orientation differs."""
    across = np.linspace(0, 255, width)[None, :] * np.ones((height, 1))
    down = np.linspace(0, 255, height)[:, None] * np.ones((1, width))
    return Image.fromarray(np.stack([across, down, across], axis=2).astype(np.uint8))


def difference(a: Image.Image, b: Image.Image) -> float:
    return float(np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).mean())


@pytest.mark.parametrize("file_format", FORMATS)
def test_formats(file_format: str):
    image = decode(encode(gradient(), file_format), max_pixels=MAX_PIXELS)
    assert image.mode == "RGB" and image.size == (64, 48)
    assert difference(image, gradient()) < 25  # GIF has 256 colours


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_modes_become_rgb(mode: str):
    data = encode(gradient().convert(mode), "JPEG" if mode in ("CMYK", "YCbCr") else "PNG")
    assert decode(data, max_pixels=MAX_PIXELS).mode == "RGB"


def test_16_bit_gray_keeps_its_shades():
    values = np.linspace(0, 65535, 64).astype(np.uint16)[None, :].repeat(8, axis=0)
    image = decode(encode(Image.fromarray(values)), max_pixels=MAX_PIXELS)
    assert np.array_equal(np.asarray(image)[..., 0], (values >> 8).astype(np.uint8))


@pytest.mark.parametrize("palette", [False, True])
def test_transparency_is_white(palette: bool):
    drawn = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    drawn.paste((255, 0, 0, 255), (0, 0, 4, 8))
    if palette:
        drawn = drawn.quantize(4)
    image = decode(encode(drawn), max_pixels=MAX_PIXELS)
    assert image.getpixel((1, 1)) == (255, 0, 0)
    assert image.getpixel((7, 7)) == (255, 255, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation(orientation: int, file_format: str):
    stored_as = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = gradient().transpose(stored_as[orientation]) if orientation in stored_as else gradient()
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode(encode(stored, file_format, exif=exif, quality=95), max_pixels=MAX_PIXELS)
    assert image.size == (64, 48)
    assert difference(image, gradient()) < 4


def test_damaged_exif_does_not_cost_the_image():
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x011A] = 1.5
    # a tag for integers, with a fraction in it
    damaged = exif.tobytes().replace(b"\x01\x1a\x00\x05", b"\x01\x19\x00\x05")
    assert damaged != exif.tobytes()
    assert decode(encode(gradient(), "JPEG", exif=damaged), max_pixels=MAX_PIXELS).size == (48, 64)


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data, max_pixels=MAX_PIXELS).getpixel((4, 4)) == (255, 0, 0)


def test_phone_pictures_of_several_images():
    data = encode(gradient(), "MPO", save_all=True, append_images=[gradient()])
    assert decode(data, max_pixels=MAX_PIXELS).size == (64, 48)


def test_at_least_decodes_a_large_jpeg_smaller():
    data = encode(gradient(800, 600), "JPEG", quality=95)
    small = decode(data, max_pixels=MAX_PIXELS, at_least=100)
    assert small.size == (200, 150)
    assert difference(small, gradient(800, 600).resize((200, 150))) < 4
    assert decode(data, max_pixels=MAX_PIXELS, at_least=600).size == (800, 600)
    assert decode(data, max_pixels=MAX_PIXELS, at_least=5000).size == (800, 600)


def test_what_follows_an_image_is_not_looked_at():
    data = encode(gradient(), "JPEG") + b"PK\x03\x04<script>alert(1)</script>%!PS"
    assert decode(data, max_pixels=MAX_PIXELS).size == (64, 48)


PROGRAMS = {
    "nothing": b"",
    "page": b"<!doctype html><html><body>Log in</body></html>",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>',
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
    "PDF": b"%PDF-1.4\n",
    "TIFF": encode(gradient(), "TIFF"),
    "ICO": encode(gradient(), "ICO"),
}


@pytest.mark.parametrize("data", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_other_formats_are_refused(data: bytes):
    with pytest.raises(BrokenImage, match="is in no known format: give one of JPEG"):
        decode(data, max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_images_are_refused(file_format: str, share: float):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encode(noise, file_format)
    with pytest.raises(BrokenImage):
        decode(data[: int(len(data) * share)], max_pixels=MAX_PIXELS)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be huge."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10_000)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [1001, 12_000, 60_000])
def test_too_many_pixels_are_refused_before_they_are_decoded(side: int):
    with pytest.raises(BrokenImage, match="has more than 1,000,000 pixels: make it smaller"):
        decode(bomb(side, side), max_pixels=MAX_PIXELS)


@given(st.sampled_from(FORMATS), st.data())
def test_any_damage_is_survived(file_format: str, data: st.DataObject):
    damaged = bytearray(encode(gradient(16, 16), file_format))
    for _ in range(data.draw(st.integers(1, 5))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BrokenImage):
        assert decode(bytes(damaged), max_pixels=MAX_PIXELS).mode == "RGB"


@pytest.mark.parametrize(("pixels", "at_once"), [(40, 2), (60, 1), (1_000, 1)])
def test_large_images_are_decoded_one_after_the_other(pixels: int, at_once: int):
    room = image_file._Room(100)
    inside, most, changed = 0, 0, threading.Lock()
    all_are_there = threading.Barrier(4)

    def decode_one() -> None:
        nonlocal inside, most
        all_are_there.wait()
        with room.taken(pixels):
            with changed:
                inside += 1
                most = max(most, inside)
            threading.Event().wait(0.05)
            with changed:
                inside -= 1

    with ThreadPoolExecutor(4) as threads:
        for one in [threads.submit(decode_one) for _ in range(4)]:
            one.result()
    assert most <= at_once
    with room.taken(100):  # all of it was given back
        pass


def test_an_image_that_cannot_be_decoded_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(image_file, "_room", image_file._Room(64 * 48))
    data = encode(gradient(), "JPEG")
    for _ in range(2):
        with pytest.raises(BrokenImage):
            decode(data[:-400], max_pixels=MAX_PIXELS)
        assert decode(data, max_pixels=MAX_PIXELS).size == (64, 48)
