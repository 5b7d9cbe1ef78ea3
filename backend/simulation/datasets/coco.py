"""COCO's JSON of object annotations: an image has the classes of the objects in it.

    street/annotations.json     {"images": [{"id": 1, "file_name": "1.jpg", "weather": "rain"}, …],
    street/images/1.jpg          "annotations": [{"image_id": 1, "category_id": 3, …}, …],
                                 "categories": [{"id": 3, "name": "car"}, …]}

Always multi-label; an image without annotations has no class. Boxes and masks are looked at for detection and
segmentation only. The images are where `file_name` says, in `images/` or beside the file. Fields of an image that are
not COCO's own are metadata.

The format: https://cocodataset.org/#format-data
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backend.labelstudio.metadata import metadata
from backend.simulation.datasets.coco_annotations import Annotation, boxes_of, regions_of
from backend.simulation.datasets.contents import Contents, Example
from backend.simulation.datasets.errors import DatasetError
from backend.simulation.datasets.images import MAX_PIXELS, ImageFile, ImageFinder
from backend.simulation.datasets.truths import Given
from backend.targets import VisionTask, votes_of

TASKS: tuple[VisionTask, ...] = ("classification", "detection", "segmentation")
FILE_NAME = "file_name"
OWN_FIELDS = frozenset(
    ("id", FILE_NAME, "width", "height", "license", "flickr_url", "coco_url", "date_captured")
)


def fits(content: Any) -> bool:
    """Whether a JSON file's content is of this format."""
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


def read(path: Path, content: Mapping[str, Any], task: VisionTask) -> Contents:
    """The images, each with what is annotated in it."""
    names = {
        _field(path, "categories", category, "id", int): _field(path, "categories", category, "name", str)
        for category in _entries(path, content, "categories")
    }
    annotated: dict[int, list[Annotation]] = {}
    for annotation in _entries(path, content, "annotations"):
        image = _field(path, "annotations", annotation, "image_id", int)
        category = _field(path, "annotations", annotation, "category_id", int)
        if category not in names:
            raise DatasetError(
                f"{path} has annotations of the category {category}, which its categories lack: add it there."
            )
        annotated.setdefault(image, []).append((names[category], annotation))
    finder = ImageFinder(path.parent)
    examples, broken = [], []
    for image in _entries(path, content, "images"):
        number = _field(path, "images", image, "id", int)
        file_name = _field(path, "images", image, FILE_NAME, str)
        file = finder.find(file_name, file_name)
        if file is None:
            broken.append(f"{file_name} is neither beside {path} nor in images/ there.")
            continue
        try:
            examples.append(_example(ImageFile(file, file_name), image, annotated.get(number, []), task))
        except DatasetError as reason:
            broken.append(str(reason))
    return Contents(examples, list(names.values()), multi_label=True, broken=broken)


def _example(
    file: ImageFile, image: Mapping[str, Any], annotations: Sequence[Annotation], task: VisionTask
) -> Example:
    further = metadata({key: value for key, value in image.items() if key not in OWN_FIELDS}, {}, FILE_NAME)
    if task == "classification":
        return Example(file, {name: 1.0 for name, _ in annotations}, further)
    size = _size(image) or file.size()
    try:
        if task == "detection":
            boxes = boxes_of(annotations, size)
            return Example(file, votes_of(boxes), further, truth=Given(boxes), size=size)
        regions = regions_of(annotations, size)
        return Example(file, dict.fromkeys(regions.labels, 1.0), further, truth=regions, size=size)
    except DatasetError as reason:
        raise DatasetError(f"{file.name} {reason}") from None


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """Width and height, where the file tells."""
    width, height = image.get("width"), image.get("height")
    if not (
        isinstance(width, int) and isinstance(height, int) and 0 < width * height <= MAX_PIXELS and width > 0
    ):
        return None
    return width, height


def _entries(path: Path, content: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    entries = content[key]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DatasetError(f"{path}: {key!r} must be a list of objects.")
    return entries


def _field(path: Path, where: str, entry: Mapping[str, Any], key: str, kind: type) -> Any:
    value = entry.get(key)
    if not isinstance(value, kind):
        raise DatasetError(
            f"{path}: an entry of {where!r} has no {key!r} that is {kind.__name__}: {entry!r:.80}"
        )
    return value
