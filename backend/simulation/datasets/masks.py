"""Images with a mask each, for semantic segmentation, read for whole images: an image has the classes in its mask.

    street/images/0001.jpg      street/classes.txt          optional: names, the one of value 0 first
    street/masks/0001.png       street/splits/test.txt      optional: a name of an image on each line

A mask has the same name as its image and is a PNG whose values are numbers of classes; `masks/` may also be called
`annotations/` or `labels/`. Always multi-label: an image has a class that covers at least 1 % of it. The value 255 and
classes called unlabelled, void or ignore are none. `splits/test.txt` names the test split, or `val.txt` where there is
no `test.txt`; labeling is replayed on all other images.
"""

from collections.abc import Mapping
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from backend.simulation.datasets.class_names import listed_classes, read_text
from backend.simulation.datasets.contents import Contents, Example
from backend.simulation.datasets.errors import DatasetError
from backend.simulation.datasets.images import (
    IMAGE_FOLDER,
    MAX_BYTES,
    MAX_PIXELS,
    ImageFile,
    image_files,
)

MASK_FOLDERS = ("masks", "annotations", "labels")
SPLIT_FILES = ("test.txt", "val.txt")
PRESENT_SHARE = 0.01  # of an image; fewer pixels are no reason to say that it shows the class
IGNORED_VALUE = 255
IGNORED_CLASSES = frozenset(("unlabelled", "unlabeled", "void", "ignore", "ignored"))
INDEX_MODES = ("1", "L", "P")


def fits(path: Path) -> bool:
    """Whether there are images and, in a folder beside them, PNG files."""
    return (path / IMAGE_FOLDER).is_dir() and _mask_folder(path) is not None


def read(path: Path) -> Contents:
    """The images that have a mask."""
    masks = _mask_folder(path)
    assert masks is not None  # it fits
    names = listed_classes(path)
    files = list(image_files(path / IMAGE_FOLDER))
    test = _test_names(path, {file.stem for file in files})
    examples, broken = [], []
    values: set[int] = set()
    for file in files:
        name = file.relative_to(path).as_posix()
        mask = (masks / file.relative_to(path / IMAGE_FOLDER)).with_suffix(".png")
        try:
            present = _values(mask, mask.relative_to(path).as_posix())
        except DatasetError as reason:
            broken.append(str(reason))
            continue
        if names and max(present, default=0) >= len(names):
            raise DatasetError(
                f"{mask} has the value {max(present)}, but classes.txt names {len(names)} classes: add it there."
            )
        values.update(present)
        labels = {_name(value, names): 1.0 for value, share in present.items() if share >= PRESENT_SHARE}
        kept = {label: share for label, share in labels.items() if label.lower() not in IGNORED_CLASSES}
        examples.append(Example(ImageFile(file, name), kept, test=file.stem in test))
    classes = names or [_name(value, None) for value in sorted(values)]
    return Contents(examples, classes, multi_label=True, broken=broken)


def _mask_folder(path: Path) -> Path | None:
    for name in MASK_FOLDERS:
        folder = path / name
        if folder.is_dir() and any(file.suffix.lower() == ".png" for file in image_files(folder)):
            return folder
    return None


def _name(value: int, names: list[str] | None) -> str:
    return names[value] if names else str(value)


def _values(path: Path, name: str) -> Mapping[int, float]:
    """The values in a mask, each with the share of the pixels that it has; without 255."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DatasetError(f"{name} is larger than {MAX_BYTES:,} bytes: make it smaller.")
        with Image.open(path, formats=["PNG"]) as mask:
            pixels = mask.width * mask.height
            if pixels > MAX_PIXELS:
                raise Image.DecompressionBombError
            if mask.mode not in INDEX_MODES:
                raise DatasetError(
                    f"{name} is in mode {mask.mode}: a mask is a grey or palette PNG of 8 bits that holds the "
                    "number of the class at each pixel."
                )
            counts = mask.histogram()
            if mask.mode == "1":  # which counts the ones as 255
                counts[1], counts[IGNORED_VALUE] = counts[IGNORED_VALUE], 0
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
    return {value: count / pixels for value, count in enumerate(counts) if count and value != IGNORED_VALUE}


def _test_names(path: Path, known: set[str]) -> set[str]:
    """The names, without suffix, of the images of the test split; empty where there is none."""
    for file in (path / "splits" / name for name in SPLIT_FILES):
        if not file.is_file():
            continue
        lines = [Path(line.strip()) for line in read_text(file).splitlines() if line.strip()]
        # A name may have a dot in it and no suffix.
        names = {line.name if line.name in known else line.stem for line in lines}
        if unknown := sorted(names - known):
            raise DatasetError(
                f"{file} names {unknown[0]!r}, but images/ has no such image: remove that line."
            )
        return names
    return set()
