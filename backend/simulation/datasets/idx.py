"""idx files, as MNIST and its successors come: a folder with images and labels in a file each, gzipped or not.

    fashion-mnist/train-images-idx3-ubyte.gz    fashion-mnist/t10k-images-idx3-ubyte.gz
    fashion-mnist/train-labels-idx1-ubyte.gz    fashion-mnist/t10k-labels-idx1-ubyte.gz

`t10k`, or a name that ends in `test`, is the test split. Classes are called by their numbers, or by the lines of
`classes.txt`, the one of class 0 first. Files that are not gzipped are mapped into memory, not read.

The format: http://yann.lecun.com/exdb/mnist/
"""

import gzip
import math
import re
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backend.simulation.datasets.class_names import CLASS_FILE, listed_classes
from backend.simulation.datasets.contents import Contents, Example
from backend.simulation.datasets.errors import DatasetError
from backend.simulation.datasets.images import MAX_PIXELS, ArrayImage
from backend.targets import VisionTask

TASKS: tuple[VisionTask, ...] = ("classification", "face")
IMAGES = re.compile(r"(?P<prefix>.*)images(?P<mark>[-.]idx)3-ubyte(?P<gz>\.gz)?")
TEST = re.compile(r".*(t10k|test)[-_.]?", re.IGNORECASE)
UNSIGNED_BYTES = 8
MAX_UNPACKED_BYTES = 4 << 30  # in memory, where a file is gzipped


def fits(path: Path) -> bool:
    """Whether there is a file of images in the folder."""
    return path.is_dir() and bool(_image_files(path))


def read(path: Path) -> Contents:
    """The images of the training split and of the test split, where there is one."""
    splits = {prefix: bool(TEST.fullmatch(prefix)) for prefix in _image_files(path)}
    if sum(not test for test in splits.values()) > 1 or sum(splits.values()) > 1:
        raise DatasetError(
            f"{path} holds several sets ({', '.join(sorted(splits))}): keep one of them in a folder of its own."
        )
    names = listed_classes(path)
    examples: list[Example] = []
    numbers: set[int] = set()
    for prefix, test in splits.items():
        images, labels = _split(path, prefix)
        present = np.unique(labels).tolist()
        if names and present[-1:] > [len(names) - 1]:
            raise DatasetError(
                f"{path} has the class {present[-1]}, but {CLASS_FILE} names {len(names)}: add the others there."
            )
        one_of = {number: {names[number] if names else str(number): 1.0} for number in present}
        numbers.update(present)
        examples += [
            Example(ArrayImage(image), one_of[label], test=test)
            for image, label in zip(images, labels.tolist(), strict=True)
        ]
    return Contents(examples, names or [str(number) for number in sorted(numbers)], multi_label=False)


def _image_files(path: Path) -> dict[str, re.Match[str]]:
    """Prefix → the name of its file of images; one that is not gzipped is preferred."""
    matches = [match for name in sorted(p.name for p in path.iterdir()) if (match := IMAGES.fullmatch(name))]
    return {match["prefix"]: match for match in sorted(matches, key=lambda match: not match["gz"])}


def _split(path: Path, prefix: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    match = _image_files(path)[prefix]
    stem = path / f"{prefix}labels{match['mark']}1-ubyte"
    files = [file for file in (stem, stem.with_name(f"{stem.name}.gz")) if file.is_file()]
    if not files:
        raise DatasetError(f"{path / match[0]} has no labels: add {stem.name} or {stem.name}.gz.")
    images, labels = _array(path / match[0], dimensions=3), _array(files[0], dimensions=1)
    if len(images) != len(labels):
        raise DatasetError(
            f"{path / match[0]} has {len(images):,} images, but {files[0].name} {len(labels):,} labels: "
            "take both from the same set."
        )
    if 0 in images.shape or images.shape[1] * images.shape[2] > MAX_PIXELS:
        raise DatasetError(f"{path / match[0]} has images of {images.shape[1]} × {images.shape[2]} pixels.")
    return images, labels


def _array(path: Path, dimensions: int) -> NDArray[np.uint8]:
    header = struct.Struct(f">HBB{dimensions}I")
    damaged = f"{path} is damaged: download it again"
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            start = file.read(header.size)
            if len(start) < header.size:
                raise DatasetError(f"{damaged} (it ends within its header).")
            zero, kind, found, *shape = header.unpack(start)
            if (zero, kind, found) != (0, UNSIGNED_BYTES, dimensions):
                raise DatasetError(f"{path} is no idx file of bytes in {dimensions} dimensions.")
            size = math.prod(shape)
            if path.suffix != ".gz":
                if path.stat().st_size != header.size + size:
                    raise DatasetError(f"{damaged} (its size is not the one that its header tells).")
                if not size:  # which cannot be mapped
                    return np.empty(shape, np.uint8)
                return np.asarray(np.memmap(path, np.uint8, "r", header.size, tuple(shape)))
            if size > MAX_UNPACKED_BYTES:
                raise DatasetError(f"{path} is too large to be read gzipped: unpack it with gunzip.")
            content = file.read(size + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DatasetError(f"{damaged} ({error}).") from None
    if len(content) != size:
        raise DatasetError(f"{damaged} (its size is not the one that its header tells).")
    return np.frombuffer(content, np.uint8).reshape(shape)
