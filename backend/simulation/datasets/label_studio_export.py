"""A Label Studio export in the format JSON, with its images beside it.

    birds/export.json       birds/images/heron.jpg      birds/config.xml    optional: the labeling config

What annotators chose for whole images, their boxes or their regions are read: of several who annotated a task, the
shares of votes, or the boxes or regions that agree most with the others'. Skipped tasks are left out, and other plain
values in the tasks' data are metadata. An export does not hold the labeling config: without `config.xml`, the classes
are those that occur, and an image may have several choices if any has. Images that Label Studio keeps
(`/data/upload/…`, `/data/local-files/?d=…`) are looked for in `images/` and beside the export; those that are not there
and those on the web are fetched through Label Studio, where LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY say which.

The format: https://labelstud.io/guide/export#JSON
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from backend.deployment import Deployment
from backend.labelstudio.labeling_config import Control, UnsupportedConfig, read_labeling_config
from backend.settings import Settings
from backend.simulation.datasets.class_names import read_text
from backend.simulation.datasets.contents import Contents
from backend.simulation.datasets.errors import DatasetError, MissingImage
from backend.simulation.datasets.images import ImageFile, ImageFinder, ImageSource
from backend.simulation.datasets.label_studio_answers import (
    CONFIG_FILE,
    annotations_of,
    answered_control,
)
from backend.simulation.datasets.label_studio_tasks import (
    TaskImage,
    contents_of,
    control_for,
    example_of,
)
from backend.targets import VisionTask

LOCAL_FILES = "/data/local-files/"
UPLOAD_MARK = re.compile(r"[0-9a-f]{8}-")  # that Label Studio puts before the name of an uploaded file


def fits(content: Any) -> bool:
    """Whether a JSON file's content is of this format."""
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(task, dict) and isinstance(task.get("data"), dict) for task in content)
    )


def read(path: Path, content: Sequence[Mapping[str, Any]], task: VisionTask) -> Contents:
    """The labeled tasks, with what their annotators said."""
    control = _control(path, content, task)
    images = _Images(path)
    examples, broken = [], []
    for position, each in enumerate(content):
        number = each["id"] if isinstance(each.get("id"), int) else position
        meta = each["meta"] if isinstance(each.get("meta"), dict) else {}
        try:
            example = example_of(number, each["data"], meta, annotations_of(each), control, images.of)
        except MissingImage as reason:
            broken.append(str(reason))
            continue
        if example is not None:
            examples.append(example)
    return contents_of(examples, broken, control, task)


def _control(path: Path, content: Sequence[Mapping[str, Any]], task: VisionTask) -> Control:
    """What annotators were asked: as the labeling config says, or else as their answers tell."""
    config = path.parent / CONFIG_FILE
    if not config.is_file():
        return answered_control(path, content, task)
    try:
        return control_for(read_labeling_config(read_text(config)), task)
    except UnsupportedConfig as reason:
        raise DatasetError(f"{config}: {reason}") from None


class _Images:
    """The images of an export's tasks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._finder = ImageFinder(path.parent)
        self._settings = Settings()
        self._deployment = Deployment(self._settings)

    def of(self, address: str, task_id: int) -> ImageSource:
        """The image at an address. Raises MissingImage where it is nowhere to be had."""
        if address[:5].lower() == "data:":
            raise MissingImage(
                f"Task {task_id} has its image within its data: save it as a file, and give its name."
            )
        if ":" not in address.partition("/")[0]:
            for path in _paths(address):
                if (file := self._finder.find(path, address)) is not None:
                    return ImageFile(file, file.relative_to(self._path.parent).as_posix())
        if not self._settings.label_studio_api_key.get_secret_value():
            raise MissingImage(
                f"Task {task_id}: its image {address:.120} is not beside {self._path}: put it into images/ "
                "there, or set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY to fetch it."
            )
        return TaskImage(self._deployment.media, address, task_id)


def _paths(address: str) -> Iterator[str]:
    """The paths that a file may have that Label Studio served at an address."""
    try:
        parts = urlsplit(address)
    except ValueError:  # it cannot be an address
        return
    if parts.path == LOCAL_FILES:
        yield from parse_qs(parts.query).get("d", [])
        return
    path = unquote(parts.path)
    yield path
    folder, _, name = path.rpartition("/")
    if UPLOAD_MARK.match(name):
        yield f"{folder}/{UPLOAD_MARK.sub('', name, count=1)}"
