"""A folder for each class, with its images in it.

    flowers/rose/1.jpg                  flowers/train/rose/1.jpg
    flowers/tulip/2.jpg                 flowers/test/rose/3.jpg

With `train/` above the classes, `test/` is the test split, or `val/` where there is no `test/`; else `val/` joins
the images that labeling is replayed on. Images further down belong to the class above them. Hidden files are passed
over.
"""

from collections.abc import Iterator
from pathlib import Path

from backend.simulation.datasets.class_names import in_natural_order
from backend.simulation.datasets.contents import Contents, Example
from backend.simulation.datasets.images import ImageFile, image_files, is_hidden, is_image_name
from backend.targets import VisionTask

TASKS: tuple[VisionTask, ...] = ("classification", "face")
TRAIN = ("train", "training")
VALIDATION = ("val", "valid", "validation")
TEST = ("test", "testing")


def fits(path: Path) -> bool:
    """Whether two folders or more hold images, or there are splits of such."""
    return path.is_dir() and (bool(_splits(path)) or sum(map(_holds_images, _folders(path))) > 1)


def read(path: Path) -> Contents:
    """The images of all classes."""
    splits = _splits(path) or {path: False}
    examples = [
        Example(ImageFile(file, file.relative_to(path).as_posix()), {folder.name: 1.0}, test=test)
        for split, test in splits.items()
        for folder in _folders(split)
        for file in image_files(folder)
    ]
    classes = in_natural_order({label for example in examples for label in example.labels})
    return Contents(examples, classes, multi_label=False)


def _splits(path: Path) -> dict[Path, bool]:
    """The folders above the classes, each with whether it is the test split; empty: there are none."""
    found = {folder.name.lower(): folder for folder in _folders(path)}
    train = [found[name] for name in TRAIN if name in found]
    # A class may be called "train": it then has images in it, not folders of images.
    if not train or not any(map(_holds_images, _folders(train[0]))) or any(_images_in(train[0])):
        return {}
    validation = [found[name] for name in VALIDATION if name in found]
    test = [found[name] for name in TEST if name in found]
    return dict.fromkeys(train, False) | dict.fromkeys(validation, not test) | dict.fromkeys(test, True)


def _folders(path: Path) -> list[Path]:
    return sorted(child for child in path.iterdir() if child.is_dir() and not is_hidden(child.name))


def _images_in(folder: Path) -> Iterator[Path]:
    return (child for child in folder.iterdir() if is_image_name(child.name))


def _holds_images(folder: Path) -> bool:
    return next(image_files(folder), None) is not None
