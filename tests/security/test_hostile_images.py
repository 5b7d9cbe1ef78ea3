"""Images that somebody made to do harm, and damaged ones: refused with a sentence, or decoded within their bounds."""

import gzip
import random
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backend.labelstudio.image_file import FORMATS, BrokenImage, decode, look
from tests.security.mutation import damaged_bytes, pick
from tests.security.watch import INPUTS, forget_peak, no_hang, peak, run

MAX_PIXELS = 1_000_000
SCENE = Image.fromarray(
    np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8).repeat(2, 0).repeat(2, 1)
)


def encoded(image: Image.Image, file_format: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes, *more: bytes) -> bytes:
    """A PNG of one gray channel that says what it likes about its size."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def gif(width: int, height: int) -> bytes:
    """A GIF that says what it likes about its size."""
    place = struct.pack("<HHHHB", 0, 0, width, height, 0)
    head = struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return b"GIF89a" + head + b"," + place + b"\x02\x02\x44\x01\x00;"


def fine() -> Iterator[tuple[str, bytes]]:
    """What is odd, but an image."""
    palette = SCENE.quantize(16)
    exif = Image.Exif()
    exif[0x0112] = 6
    for file_format in FORMATS:
        yield file_format, encoded(SCENE, file_format)
        yield (
            f"{file_format} and a script",
            encoded(SCENE, file_format) + b"<script>alert(1)</script><?php evil() ?>",
        )
        yield f"{file_format} and a zip", encoded(SCENE, file_format) + b"PK\x03\x04" + bytes(100)
    yield "animated GIF", encoded(SCENE, "GIF", save_all=True, append_images=[SCENE.rotate(90)] * 5)
    yield "animated WebP", encoded(SCENE, "WEBP", save_all=True, append_images=[SCENE.rotate(90)] * 5)
    yield "animated PNG", encoded(SCENE, "PNG", save_all=True, append_images=[SCENE.rotate(90)] * 5)
    yield "CMYK", encoded(SCENE.convert("CMYK"), "JPEG")
    yield "16 bits", encoded(Image.fromarray(np.full((8, 8), 40_000, np.uint16)), "PNG")
    yield "palette with transparency", encoded(palette, "PNG", transparency=bytes(range(16)))
    yield "sideways", encoded(SCENE, "JPEG", exif=exif)
    yield "broken EXIF", encoded(SCENE, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + bytes(40))
    yield "PNG with more pixels than it says", png(100, 100, zlib.compress(bytes(20_000_000), 9)[:15_000])
    yield "one pixel", encoded(Image.new("1", (1, 1)), "PNG")
    yield "one row", encoded(Image.new("L", (60_000, 1)), "PNG")


def text_bomb() -> bytes:
    return chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(20_000_000), 9))


def hostile() -> Iterator[tuple[str, bytes]]:
    """What is no image, or no bearable one."""
    yield "nothing", b""
    for size in (1, 100, 100_000):
        yield f"{size} zeros", bytes(size)
    yield "noise", random.Random(0).randbytes(10_000)
    yield (
        "SVG",
        b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    )
    yield (
        "SVG that reads a file",
        b'<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg><text>&x;</text></svg>',
    )
    yield "HTML", b"<!doctype html><script>alert(1)</script>"
    yield "PDF", b"%PDF-1.7\n1 0 obj <</OpenAction <</S /Launch>>>> endobj"
    yield "PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) (r) file\n"
    yield (
        "MVG",
        b"push graphic-context\nfill 'url(https://example.com/a.jpg\"|ls \"-la)'\npop graphic-context",
    )
    yield "GIFAR", b"GIF89a" + b"PK\x03\x04" + bytes(200)
    yield "gzip bomb", gzip.compress(bytes(10_000_000))
    yield "TIFF", encoded(SCENE, "TIFF")
    yield "TIFF of many pixels", encoded(Image.new("1", (5_000, 5_000)), "TIFF", compression="group4")
    yield "ICO", encoded(SCENE, "ICO")
    yield "PPM of many pixels", b"P6 60000 60000 255\n"
    yield "PNG of many pixels", png(60_000, 60_000, zlib.compress(bytes(1_000)))
    yield "PNG of the most pixels", png(2**31 - 1, 2**31 - 1, b"")
    yield "PNG of no pixels", png(0, 0, b"")
    yield "PNG bomb", encoded(Image.new("L", (5_000, 5_000)), "PNG")
    yield "PNG with a bomb of text", png(100, 100, zlib.compress(bytes(10_100)), text_bomb())
    yield "GIF of many pixels", gif(65_535, 65_535)
    yield "WebP of many pixels", encoded(Image.new("L", (4_000, 4_000)), "WEBP", quality=1, method=0)
    yield (
        "BMP of many pixels",
        b"BM"
        + struct.pack("<IHHI", 0, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 60_000, -60_000, 1, 24, *[0] * 6),
    )
    for file_format in FORMATS:
        whole = encoded(SCENE, file_format)
        yield f"{file_format}, a third of it", whole[: len(whole) // 3]


FINE, HOSTILE = dict(fine()), dict(hostile())
MOST_MEMORY = 200 << 20  # bytes that one image may take for a moment


@pytest.mark.parametrize("name", FINE)
def test_odd_images_are_decoded(name: str) -> None:
    with no_hang():
        image = decode(FINE[name], max_pixels=MAX_PIXELS)
    assert image.mode == "RGB" and image.width * image.height <= MAX_PIXELS
    assert look(BytesIO(FINE[name]), max_pixels=MAX_PIXELS) == image.info["original_size"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_images_are_refused_with_a_sentence(name: str) -> None:
    forget_peak()
    before = peak()
    with no_hang(), pytest.raises(BrokenImage, match=r"^(is|has) .*: (give|make|replace)"):
        decode(HOSTILE[name], max_pixels=MAX_PIXELS)
    assert peak() - before < MOST_MEMORY


def test_damaged_images() -> None:
    whole = [data for name, data in FINE.items() if len(data) < 20_000]

    def one(number: int) -> None:
        chance = random.Random(number)
        data = damaged_bytes(pick(whole, chance), chance)
        for at_least in (None, 8):
            try:
                image = decode(data, max_pixels=MAX_PIXELS, at_least=at_least)
            except BrokenImage as error:
                assert ": " in str(error)
            else:
                assert image.mode == "RGB" and image.width * image.height <= MAX_PIXELS

    run(one, INPUTS["images"])
