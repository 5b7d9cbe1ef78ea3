"""A Label Studio export in the format JSON, with its images beside it.

    birds/export.json       birds/images/heron.jpg      birds/config.xml    optional: the labeling config

What annotators chose for whole images is read, and becomes shares of votes where several annotated a task; skipped
tasks are left out, and other plain values in the tasks' data are metadata. An export does not hold the labeling config:
without `config.xml`, the classes are those that were chosen, and an image may have several if any has. Images that
Label Studio keeps (`/data/upload/…`, `/data/local-files/?d=…`) are looked for in `images/` and beside the export; those
that are not there and those on the web are fetched through Label Studio, where LABEL_STUDIO_URL and
LABEL_STUDIO_API_KEY say which.

The format: https://labelstud.io/guide/export#JSON
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from backend.deployment import Deployment
from backend.labelstudio.labeling_config import Control, UnsupportedConfig, read_labeling_config
from backend.labelstudio.metadata import ADDRESSES
from backend.settings import Settings
from backend.simulation.datasets.class_names import in_natural_order, read_text
from backend.simulation.datasets.contents import Contents
from backend.simulation.datasets.errors import DatasetError, MissingImage
from backend.simulation.datasets.images import ImageFile, ImageFinder, ImageSource, is_image_name
from backend.simulation.datasets.label_studio_tasks import TaskImage, example_of

CONFIG_FILE = "config.xml"
LOCAL_FILES = "/data/local-files/"
UPLOAD_MARK = re.compile(r"[0-9a-f]{8}-")  # that Label Studio puts before the name of an uploaded file


def fits(content: Any) -> bool:
    """Whether a JSON file's content is of this format."""
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(task, dict) and isinstance(task.get("data"), dict) for task in content)
    )


def read(path: Path, content: Sequence[Mapping[str, Any]]) -> Contents:
    """The labeled tasks, with the votes of their annotators."""
    control = _control(path, content)
    images = _Images(path)
    examples, broken = [], []
    for position, task in enumerate(content):
        number = task["id"] if isinstance(task.get("id"), int) else position
        meta = task["meta"] if isinstance(task.get("meta"), dict) else {}
        try:
            example = example_of(number, task["data"], meta, _annotations(task), control, images.of)
        except MissingImage as reason:
            broken.append(str(reason))
            continue
        if example is not None:
            examples.append(example)
    return Contents(examples, control.classes, control.multiple, broken)


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


def _annotations(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    annotations = task.get("annotations")
    return annotations if isinstance(annotations, list) else []


def _control(path: Path, content: Sequence[Mapping[str, Any]]) -> Control:
    """What annotators were asked: as the labeling config says, or else as their answers tell."""
    config = path.parent / CONFIG_FILE
    if config.is_file():
        try:
            return read_labeling_config(read_text(config)).controls[0]
        except UnsupportedConfig as reason:
            raise DatasetError(f"{config}: {reason}") from None
    regions = [
        region
        for task in content
        for annotation in _annotations(task)
        if isinstance(annotation, Mapping) and isinstance(annotation.get("result"), list)
        for region in annotation["result"]
        if isinstance(region, Mapping)
    ]
    answers = [region for region in regions if _is_choice(region)]
    if not answers:
        kinds = ", ".join(sorted({str(region.get("type")) for region in regions})) or "no annotation"
        raise DatasetError(
            f"{path} has no choice for a whole image; it has: {kinds}. Export a project that asks for <Choices>, "
            "in the format JSON."
        )
    asked = Counter((region["from_name"], region["to_name"]) for region in answers)
    (name, to_name), _ = asked.most_common(1)[0]
    chosen = [r["value"]["choices"] for r in answers if (r["from_name"], r["to_name"]) == (name, to_name)]
    return Control(
        tag="Choices",
        task="classification",
        name=name,
        to_name=to_name,
        image_key=_image_key(path, content),
        classes=tuple(in_natural_order({label for labels in chosen for label in labels})),
        multiple=any(len(labels) > 1 for labels in chosen),
    )


def _is_choice(region: Mapping[str, Any]) -> bool:
    """Whether it is a choice for a whole image; one for a part of it has the part's place as well."""
    value = region.get("value")
    return (
        region.get("type") == "choices"
        and isinstance(region.get("from_name"), str)
        and isinstance(region.get("to_name"), str)
        and isinstance(value, Mapping)
        and value.keys() == {"choices"}
        and isinstance(value["choices"], list)
        and all(isinstance(label, str) for label in value["choices"])
    )


def _image_key(path: Path, content: Sequence[Mapping[str, Any]]) -> str:
    """The key in the tasks' data under which most have an image."""
    counts = Counter(
        key
        for task in content
        for key, value in task["data"].items()
        if isinstance(value, str) and (value.startswith(ADDRESSES) or is_image_name(value))
    )
    if not counts:
        raise DatasetError(f"{path}: no task has an image's address in its data.")
    most = max(counts.values())
    candidates = [key for key, count in counts.items() if count == most]
    if len(candidates) > 1 and "image" not in candidates:
        raise DatasetError(
            f"{path}: the tasks have several images ({', '.join(map(repr, candidates))}): save the labeling config "
            f"as {CONFIG_FILE} beside it."
        )
    return "image" if "image" in candidates else candidates[0]
