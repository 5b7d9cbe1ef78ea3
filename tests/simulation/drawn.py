"""Images that tests draw."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def draw(path: Path, value: int = 100, size: tuple[int, int] = (8, 6)) -> Path:
    """Write an image of one grey value; the format follows from the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)
    return path


def draw_mask(path: Path, values: list[list[int]] | np.ndarray) -> Path:
    """Write a grey PNG of these values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)
    return path


def draw_bomb(path: Path) -> Path:
    """Write some bytes that say that they are a PNG of 3,600,000,000 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    checked = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + checked + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", 0))
    return path
