"""Labeled images, whatever the format they come in.

For classification, sets for detection and segmentation are read for whole images: which classes an image shows.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from backend.simulation.dataset import Dataset
from backend.simulation.datasets import (
    class_folders,
    coco,
    digits,
    idx,
    label_studio_export,
    label_studio_project,
    masks,
    npz,
    voc,
)
from backend.simulation.datasets.class_names import read_text
from backend.simulation.datasets.contents import Contents, assemble
from backend.simulation.datasets.errors import DatasetError
from backend.targets import VisionTask

__all__ = ["DatasetError", "read_dataset"]

DIGITS = "digits"
KNOWN = """
  digits         scikit-learn's handwritten digits
  project:3      the labeled tasks of a Label Studio project
  a folder       with a folder of images for each class, in train/ and test/ or not;
                 with images/ and masks/ (index PNG, the same names);
                 with images/ and annotations/ (XML as of Pascal VOC, the same names);
                 or with idx files, such as train-images-idx3-ubyte.gz
  a .npz file    with the arrays images and labels
  a .json file   COCO, or exported from Label Studio as JSON"""


TASKS: tuple[VisionTask, ...] = ("classification", "face")  # of the digits
READ_FOR: dict[VisionTask, str] = {
    "detection": "boxes are read from COCO JSON, folders with XML as of Pascal VOC, and Label Studio",
    "segmentation": "regions are read from COCO JSON, folders with images/ and masks/, and Label Studio",
    "face": "people's names are read as classes: of folders, .npz and idx files, and from Label Studio",
}


def read_dataset(source: str, limit: int | None = None, task: VisionTask = "classification") -> Dataset:
    """The data set that `source` names: "digits", "project:3", or the path of a folder or file.

    limit: read so many images, drawn uniformly (always the same), and the test split in full.
    task: what is asked of the images.

    Images are read when they are asked for; the Dataset's `broken` tells which showed before that they cannot be.

    Raises:
        DatasetError: there is no such data set, it is in no known format, or holds nothing to learn from.
        LabelStudioError: Label Studio is needed and cannot be read.
        UnsupportedConfig: the Label Studio project asks nothing that can be learned.
    """
    if limit is not None and limit < 2:
        raise DatasetError(f"The limit is {limit}: two images at least are needed.")
    if source == DIGITS:
        _check_task(source, TASKS, task)
        return assemble(source, digits.read(), task, limit)
    if source.startswith(label_studio_project.PREFIX):
        return assemble(source, label_studio_project.read(source, task), task, limit)
    path = Path(source).expanduser()
    try:
        return assemble(path.absolute().name or source, _read(path, task), task, limit)
    except OSError as error:
        raise DatasetError(f"{error.filename or source} cannot be read: {error.strerror or error}.") from None


def _read(path: Path, task: VisionTask) -> Contents:
    if not path.exists():
        raise DatasetError(f"There is no {path}. Known are:{KNOWN}")
    if path.is_file() and path.suffix.lower() == ".json":
        return _read_json(path, task)
    fitting = [reader for reader in (npz, idx, masks, voc) if reader.fits(path)]
    if not fitting and class_folders.fits(path):  # which would take images/ and masks/ for classes
        fitting = [class_folders]
    if not fitting:
        raise DatasetError(f"{path} is {_described(path)}, which is in no known format. Known are:{KNOWN}")
    reader = next((reader for reader in fitting if task in reader.TASKS), fitting[0])
    _check_task(path, reader.TASKS, task)
    contents: Contents = reader.read(path, task) if reader in (masks, voc) else reader.read(path)
    return contents


def _read_json(path: Path, task: VisionTask) -> Contents:
    content = _json(path)
    if coco.fits(content):
        _check_task(path, coco.TASKS, task)
        return coco.read(path, content, task)
    if label_studio_export.fits(content):
        return label_studio_export.read(path, content, task)
    raise DatasetError(
        f"{path} holds {_described_json(content)}, which is in no known format. Known are:{KNOWN}"
    )


def _check_task(source: Path | str, tasks: Collection[VisionTask], task: VisionTask) -> None:
    if task not in tasks:
        raise DatasetError(
            f"{source} can be used for {' and '.join(tasks)}, not for {task}: {READ_FOR[task]}."
        )


def _json(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is no valid JSON ({error}): export it again.") from None


def _described_json(content: Any) -> str:
    if isinstance(content, dict):
        return f"an object with {_listed([repr(key) for key in content])}"
    if isinstance(content, list):
        first = f", the first {_described_json(content[0])}" if content else ""
        return f"a list of {len(content)}{first}"
    return f"a {type(content).__name__}"


def _described(path: Path) -> str:
    """What is there, and what may be meant by it."""
    if path.is_file():
        return f"a {path.suffix} file" if path.suffix else "a file without a suffix"
    folders = sorted(child for child in path.iterdir() if child.is_dir())
    files = sorted(child for child in path.iterdir() if child.is_file())
    seen = (
        f"a folder with the folders {_listed([folder.name for folder in folders])} and the files "
        f"{_listed([file.name for file in files])}"
    )
    readable = [folder for folder in folders if any(f.fits(folder) for f in (idx, masks, voc, class_folders))]
    readable += [file for file in files if file.suffix.lower() in (".npz", ".json")]
    return f"{seen} (perhaps {_listed([str(each) for each in readable])} is meant)" if readable else seen


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:6])
    return f"{shown} and {len(names) - 6} more" if len(names) > 6 else shown or "(none)"
