"""Images with a mask each: an image has the classes in its mask.

    street/images/0001.jpg      street/classes.txt          optional: names, the one of value 0 first
    street/masks/0001.png       street/splits/test.txt      optional: a name of an image on each line

A mask has the same name as its image and is a PNG whose values are numbers of classes; `masks/` may also be called
`annotations/` or `labels/`. Always multi-label. The value 255 and classes called unlabelled, void or ignore are none.
`splits/test.txt` names the test split, or `val.txt` where there is no `test.txt`; labeling is replayed on all other
images.

For classification, an image has a class that covers at least 1 % of it. For segmentation, a class called background, or
the value 0 where no `classes.txt` names the classes, is what no region covers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from backend.simulation.datasets.class_names import listed_classes
from backend.simulation.datasets.contents import Contents, Example
from backend.simulation.datasets.errors import DatasetError
from backend.simulation.datasets.images import (
    IMAGE_FOLDER,
    MAX_BYTES,
    MAX_PIXELS,
    ImageFile,
    image_files,
)
from backend.simulation.datasets.splits import test_names
from backend.simulation.datasets.truths import bitmap_of
from backend.targets import MaskTarget, VisionTask

TASKS: tuple[VisionTask, ...] = ("classification", "segmentation")
MASK_FOLDERS = ("masks", "annotations", "labels")
PRESENT_SHARE = 0.01  # of an image; fewer pixels are no reason to say that it shows the class
IGNORED_VALUE = 255
IGNORED_CLASSES = frozenset(("unlabelled", "unlabeled", "void", "ignore", "ignored"))
BACKGROUND = "background"
INDEX_MODES = ("1", "L", "P")


def fits(path: Path) -> bool:
    """Whether there are images and, in a folder beside them, PNG files."""
    return (path / IMAGE_FOLDER).is_dir() and _mask_folder(path) is not None


def read(path: Path, task: VisionTask) -> Contents:
    """The images that have a mask."""
    masks = _mask_folder(path)
    assert masks is not None  # it fits
    names = listed_classes(path)
    files = list(image_files(path / IMAGE_FOLDER))
    test = test_names(path, {file.stem for file in files})
    examples, broken = [], []
    values: set[int] = set()
    for file in files:
        image = ImageFile(file, file.relative_to(path).as_posix())
        mask = (masks / file.relative_to(path / IMAGE_FOLDER)).with_suffix(".png")
        try:
            size, present = _values(mask, mask.relative_to(path).as_posix())
        except DatasetError as reason:
            broken.append(str(reason))
            continue
        if names and max(present, default=0) >= len(names):
            raise DatasetError(
                f"{mask} has the value {max(present)}, but classes.txt names {len(names)} classes: add it there."
            )
        values.update(present)
        is_test = file.stem in test
        if task == "segmentation":
            truth = MaskFile(mask, mask.relative_to(path).as_posix(), names)
            regions = region_labels(present, names).values()
            labels = {label: 1.0 for label in regions if label is not None}
            examples.append(Example(image, labels, test=is_test, truth=truth, size=size))
        else:
            shown = [_name(value, names) for value, share in present.items() if share >= PRESENT_SHARE]
            examples.append(
                Example(image, {name: 1.0 for name in shown if not _is_ignored(name)}, test=is_test)
            )
    classes = names or [_name(value, None) for value in sorted(values)]
    return Contents(examples, classes, multi_label=True, broken=broken)


@dataclass(frozen=True, slots=True)
class MaskFile:
    """The regions in a mask, read when they are asked for.

    name: how messages call it. names: of the classes, that of value 0 first.
    """

    path: Path
    name: str
    names: Sequence[str] | None

    def read(self) -> MaskTarget:
        with _opened(self.path, self.name) as mask:
            pixels = np.asfortranarray(mask, np.uint8)
        values = np.flatnonzero(np.bincount(pixels.ravel("K"))).tolist()
        labels = region_labels(values, self.names)
        height, width = pixels.shape
        regions = tuple(bitmap_of(label, pixels == value) for value, label in labels.items())
        return MaskTarget(regions, width, height)

    def identity(self) -> bytes:
        status = self.path.stat()
        return f"{self.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode()


def _mask_folder(path: Path) -> Path | None:
    for name in MASK_FOLDERS:
        folder = path / name
        if folder.is_dir() and any(file.suffix.lower() == ".png" for file in image_files(folder)):
            return folder
    return None


def region_labels(values: Iterable[int], names: Sequence[str] | None) -> dict[int, str | None]:
    """The label of the regions of each value, None where they are to be ignored; without values of background."""
    labels: dict[int, str | None] = {}
    for value in values:
        name = _name(value, names)
        if value == IGNORED_VALUE or _is_ignored(name):
            labels[value] = None
        elif value > 0 if names is None else name.lower() != BACKGROUND:
            labels[value] = name
    return labels


def _name(value: int, names: Sequence[str] | None) -> str:
    return names[value] if names and value < len(names) else str(value)


def _is_ignored(name: str) -> bool:
    return name.lower() in IGNORED_CLASSES


def _values(path: Path, name: str) -> tuple[tuple[int, int], Mapping[int, float]]:
    """Width and height of a mask; its values, each with the share of the pixels that it has; without 255."""
    with _opened(path, name) as mask:
        counts = mask.histogram()
        if mask.mode == "1":  # which counts the ones as 255
            counts[1], counts[IGNORED_VALUE] = counts[IGNORED_VALUE], 0
        size = mask.size
    pixels = size[0] * size[1]
    return size, {
        value: count / pixels for value, count in enumerate(counts) if count and value != IGNORED_VALUE
    }


@contextmanager
def _opened(path: Path, name: str) -> Iterator[Image.Image]:
    """A mask, to be decoded within. Raises DatasetError where it cannot be."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DatasetError(f"{name} is larger than {MAX_BYTES:,} bytes: make it smaller.")
        with Image.open(path, formats=["PNG"]) as mask:
            if mask.width * mask.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            if mask.mode not in INDEX_MODES:
                raise DatasetError(
                    f"{name} is in mode {mask.mode}: a mask is a grey or palette PNG of 8 bits that holds the "
                    "number of the class at each pixel."
                )
            yield mask
    except FileNotFoundError:
        raise DatasetError(f"{name} is missing: add the mask, or remove its image.") from None
    except UnidentifiedImageError:
        raise DatasetError(f"{name} is no PNG: masks must be.") from None
    except Image.DecompressionBombError:
        raise DatasetError(f"{name} has more than {MAX_PIXELS:,} pixels: make it smaller.") from None
    except DatasetError:
        raise
    except Exception as error:  # decoders raise whatever broken bytes lead them to
        raise DatasetError(f"{name} is damaged ({type(error).__name__}): replace it.") from None
