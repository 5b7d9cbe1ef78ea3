"""Where the images of a data set come from: a file each, or one array."""

import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.labelstudio.image_file import BrokenImage, decode, look
from backend.simulation.datasets.errors import DatasetError

# Of one image file, as for those that the loop fetches.
MAX_BYTES = 50 << 20
MAX_PIXELS = 100_000_000
ENOUGH_PIXELS = 512  # of a shorter side; more than any embedder looks at

IMAGE_FOLDER = "images"
# Also of formats that cannot be read: such files are told about, not passed over.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".avif"),
    *(".tif", ".tiff", ".pgm", ".ppm", ".pnm", ".jp2", ".heic", ".svg"),
)


class ImageSource(Protocol):
    """One image that is read when it is asked for."""

    def look(self, labeled: tuple[int, int] | None) -> None:
        """Raise DatasetError where it shows at little cost that the image cannot be read, or is not what was labeled.

        labeled: width and height of the image that its objects or regions are for, where they are known.
        """

    def load(self) -> Image.Image:
        """The image, upright, RGB or L. Raises DatasetError where it cannot be read."""

    def identity(self) -> bytes:
        """What changes when the image does."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image in a file of its own.

    name: how messages call it, which is also its name in the data set: its path below the set's folder.
    """

    path: Path
    name: str

    def look(self, labeled: tuple[int, int] | None) -> None:
        size = self.size()
        # Places hold at any resolution, and sides are rounded when an image is resized.
        if labeled and abs(size[0] * labeled[1] - size[1] * labeled[0]) > max(*size, *labeled):
            raise DatasetError(
                f"{self.name} is {size[0]} × {size[1]} pixels, but was labeled with {labeled[0]} × {labeled[1]}: "
                "give the image that was labeled, upright."
            )

    def size(self) -> tuple[int, int]:
        """Width and height, upright. Raises DatasetError where the image cannot be read."""
        with self._opened() as file:
            try:
                return look(file, max_pixels=MAX_PIXELS)
            except BrokenImage as reason:
                raise DatasetError(f"{self.name} {reason}.") from None

    def load(self) -> Image.Image:
        with self._opened() as file:
            data = file.read(MAX_BYTES)
        try:
            return decode(data, max_pixels=MAX_PIXELS, at_least=ENOUGH_PIXELS)
        except BrokenImage as reason:
            raise DatasetError(f"{self.name} {reason}.") from None

    def identity(self) -> bytes:
        status = self.path.stat()
        return f"{self.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode()

    def _opened(self) -> Any:
        try:
            if self.path.stat().st_size > MAX_BYTES:
                raise DatasetError(f"{self.name} is larger than {MAX_BYTES:,} bytes: make it smaller.")
            return self.path.open("rb")
        except OSError as error:
            raise DatasetError(f"{self.name} cannot be read ({error.strerror}): make it readable.") from None


@dataclass(frozen=True, slots=True)
class ArrayImage:
    """An image in an array, (height, width) grey or (height, width, 3), uint8."""

    pixels: NDArray[np.uint8]

    def look(self, labeled: tuple[int, int] | None) -> None:
        """An array that was read has nothing left to be broken."""

    def load(self) -> Image.Image:
        return Image.fromarray(np.ascontiguousarray(self.pixels))

    def identity(self) -> bytes:
        return repr(self.pixels.shape).encode() + self.pixels.tobytes()


def image_files(folder: Path) -> Iterator[Path]:
    """The image files in a folder and those within, in a fixed order; hidden ones are passed over."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in sorted(files):
            path = Path(parent, name)
            if is_image_name(name) and path.is_file():
                yield path


def is_image_name(name: str) -> bool:
    """Whether it is the name of a visible file and ends as an image's."""
    return not is_hidden(name) and name.lower().endswith(SUFFIXES)


def is_hidden(name: str) -> bool:
    """Also what archives and file servers leave behind: __MACOSX, @eaDir."""
    return name.startswith((".", "__", "@"))


class ImageFinder:
    """Finds the files that an annotation file means by the addresses in it.

    folder: that of the annotation file. Nothing outside it is looked at.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._address_of: dict[Path, str] = {}

    def find(self, path: str, address: str) -> Path | None:
        """The file at this path, in the folder or in `images/`, or of its name alone there; None: there is none.

        address: as the annotation file has it.
        Raises DatasetError where an earlier, other address led to the same file.
        """
        relative = posixpath.normpath(path.replace("\\", "/")).lstrip("/")
        name = posixpath.basename(relative)
        candidates = [] if relative.startswith("../") else [relative, f"{IMAGE_FOLDER}/{relative}"]
        for candidate in [*candidates, f"{IMAGE_FOLDER}/{name}", name]:
            file = self._folder / candidate
            if _is_file(file):
                earlier = self._address_of.setdefault(file, address)
                if earlier != address:
                    raise DatasetError(
                        f"{file} may be {earlier} or {address}: keep the images in the folders that they are in there."
                    )
                return file
        return None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # it can be no file's name
        return False
