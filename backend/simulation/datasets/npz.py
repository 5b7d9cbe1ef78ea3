"""An .npz file of NumPy, with the images in one array.

    images    (n, height, width) grey or (n, height, width, 3), uint8
    labels    (n,) integers or strings, or (n, classes) 0/1
    classes   optional: names, the one of class 0 or of the first column first
    weather   optional, as any other array of n values: metadata

and optionally `test_images`, `test_labels` and `test_weather` for the test split. Labels of (n, classes) with exactly
one class in each row are single-label. Nothing is ever unpickled.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.simulation.datasets.class_names import in_natural_order
from backend.simulation.datasets.contents import Contents, Example
from backend.simulation.datasets.errors import DatasetError
from backend.simulation.datasets.images import MAX_PIXELS, ArrayImage
from backend.simulation.datasets.npz_file import NpzFile
from backend.targets import VisionTask

TASKS: tuple[VisionTask, ...] = ("classification", "face")
TEST = "test_"
NAMED = ("images", "labels", "classes")


def fits(path: Path) -> bool:
    """Whether it is such a file, by its name."""
    return path.is_file() and path.suffix.lower() == ".npz"


def read(path: Path) -> Contents:
    """Its images, mapped into memory where the file is not compressed (`numpy.savez`)."""
    with NpzFile(path) as file:
        if missing := {"images", "labels"} - file.shapes.keys():
            raise DatasetError(
                f"{path} has no array {' and no array '.join(map(repr, sorted(missing)))}; "
                f"it has: {', '.join(map(repr, sorted(file.shapes)))}. Rename those that are meant."
            )
        prefixes = [prefix for prefix in ("", TEST) if f"{prefix}images" in file.shapes]
        labels = [_labels(path, file, prefix) for prefix in prefixes]
        names = [str(name) for name in file.array("classes").tolist()] if "classes" in file.shapes else None
        named, classes, multi_label = _named(path, labels, names)
        examples: list[Example] = []
        for prefix, each in zip(prefixes, named, strict=True):
            images = _images(path, file, prefix, len(each))
            metadata = _metadata(file, prefix, len(each))
            examples += [
                Example(ArrayImage(image), shares, fields, test=bool(prefix))
                for image, shares, fields in zip(images, each, metadata, strict=True)
            ]
    return Contents(examples, classes, multi_label)


def _images(path: Path, file: NpzFile, prefix: str, labels: int) -> NDArray[np.uint8]:
    images = file.array(f"{prefix}images", mapped=True)
    where = f"{path}: {prefix}images"
    if images.dtype != np.uint8:
        raise DatasetError(
            f"{where} is {images.dtype}: convert it to uint8, 0..255 (values in 0..1 times 255 before)."
        )
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim != 3 and not (images.ndim == 4 and images.shape[3] == 3):
        raise DatasetError(
            f"{where} has the shape {images.shape}: it must be (n, height, width) or (n, height, width, 3)."
        )
    if len(images) != labels:
        raise DatasetError(f"{where} has {len(images):,} images, but there are {labels:,} labels.")
    if images.size and images.shape[1] * images.shape[2] > MAX_PIXELS:
        raise DatasetError(f"{where} has images of more than {MAX_PIXELS:,} pixels: make them smaller.")
    if 0 in images.shape[1:]:
        raise DatasetError(f"{where} has the shape {images.shape}: its images have no pixels.")
    return images


def _labels(path: Path, file: NpzFile, prefix: str) -> NDArray[Any]:
    """(n,) integers or strings, or (n, classes) booleans."""
    key = f"{prefix}labels"
    if key not in file.shapes:
        raise DatasetError(f"{path} has {prefix}images, but no {key}: add the label of each image.")
    labels = file.array(key)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 1 and labels.dtype.kind in "iuU":
        return labels
    if labels.ndim == 1 and labels.dtype.kind == "S":
        return np.char.decode(labels, "utf-8", "replace")
    if labels.ndim == 2 and labels.dtype.kind in "biuf" and np.isin(labels, (0, 1)).all():
        return labels.astype(np.bool_)
    raise DatasetError(
        f"{path}: {key} is {labels.dtype} of the shape {labels.shape}: it must be (n,) integers or strings, "
        "or (n, classes) of 0 and 1."
    )


def _named(
    path: Path, splits: Sequence[NDArray[Any]], names: Sequence[str] | None
) -> tuple[list[list[Mapping[str, float]]], Sequence[str], bool]:
    """For each split the labels of its images by class name; the classes; whether they are multi-label."""
    if len({(labels.ndim, labels.dtype.kind == "U") for labels in splits}) > 1 or (
        splits[0].ndim == 2 and len({labels.shape[1] for labels in splits}) > 1
    ):
        raise DatasetError(f"{path}: labels and test_labels must be of one kind, with the same classes.")
    if splits[0].ndim == 2:
        names = names or [str(column) for column in range(splits[0].shape[1])]
        if len(names) != splits[0].shape[1] or len(set(names)) < len(names):
            raise DatasetError(
                f"{path}: labels has {splits[0].shape[1]} columns, and classes {len(set(names))} different names: "
                "give each column a name of its own."
            )
        by_class: list[list[Mapping[str, float]]] = [
            [{names[column]: 1.0 for column in np.flatnonzero(row).tolist()} for row in labels]
            for labels in splits
        ]
        return by_class, names, any((labels.sum(axis=1) != 1).any() for labels in splits)
    present = np.unique(np.concatenate([np.unique(labels) for labels in splits])).tolist()
    if splits[0].dtype.kind == "U":
        called = {label: str(label) for label in present}
    elif names is None:
        called = {label: str(label) for label in present}
        names = [str(label) for label in present]
    else:
        if present and not (present[0] >= 0 and present[-1] < len(names)):
            raise DatasetError(
                f"{path}: labels go from {present[0]} to {present[-1]}, but classes has {len(names)} names: "
                "name each class, the one of 0 first."
            )
        called = {label: names[label] for label in present}
    one_of: dict[Any, Mapping[str, float]] = {label: {name: 1.0} for label, name in called.items()}
    return [[one_of[label] for label in labels.tolist()] for labels in splits], _ordered(called, names), False


def _ordered(called: Mapping[Any, str], names: Sequence[str] | None) -> list[str]:
    """In the order of the file's classes, then any others."""
    return [*(names or []), *in_natural_order(set(called.values()) - set(names or []))]


def _metadata(file: NpzFile, prefix: str, images: int) -> list[dict[str, str]]:
    """Of each image, by field. In the test split, the fields are those that begin with `test_`."""
    fields = {}
    for key, shape in file.shapes.items():
        field = key.removeprefix(prefix)
        if field in NAMED or (prefix and field == key) or (not prefix and key.startswith(TEST)):
            continue
        if shape == (images,):
            fields[field] = [str(value) for value in file.array(key).tolist()]
    return [{field: values[row] for field, values in fields.items()} for row in range(images)]
