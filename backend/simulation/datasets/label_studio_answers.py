"""What annotators were asked, as far as their answers tell: for exports that come without the labeling config."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from backend.labelstudio.control import TASKS, Control
from backend.labelstudio.metadata import ADDRESSES
from backend.simulation.datasets.class_names import in_natural_order
from backend.simulation.datasets.errors import DatasetError
from backend.simulation.datasets.images import is_image_name
from backend.targets import VisionTask

CONFIG_FILE = "config.xml"
FOR_WHOLE_IMAGES = ("choices", "taxonomy", "textarea")
WANTED: Mapping[VisionTask, str] = {
    "classification": "choice for a whole image",
    "detection": "box with a label",
    "segmentation": "region with a label",
    "face": "name for a whole image",
}


def annotations_of(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The annotations of a task in an export."""
    annotations = task.get("annotations")
    return annotations if isinstance(annotations, list) else []


def answered_control(path: Path, content: Sequence[Mapping[str, Any]], task: VisionTask) -> Control:
    """The control for a task that has most answers. Raises DatasetError where there is none."""
    regions = [
        region
        for each in content
        for annotation in annotations_of(each)
        if isinstance(annotation, Mapping) and isinstance(annotation.get("result"), list)
        for region in annotation["result"]
        if isinstance(region, Mapping)
    ]
    tags = {tag.lower(): tag for tag, tasks in TASKS.items() if task in tasks}
    answers = [region for region in regions if _is_answer(region, tags)]
    if not answers:
        kinds = ", ".join(sorted({str(region.get("type")) for region in regions})) or "no annotation"
        raise DatasetError(
            f"{path} has no {WANTED[task]}; it has: {kinds}. Export a project that asks for "
            f"{' or '.join(f'<{tag}>' for tag in tags.values())}, in the format JSON."
        )
    (kind, name, to_name), _ = Counter(map(_asked, answers)).most_common(1)[0]
    chosen = [_labels(region) for region in answers if _asked(region) == (kind, name, to_name)]
    listed = tags[kind] not in ("Taxonomy", "TextArea")  # else the target tells what the answers are called
    several = task != "classification" or any(len(labels) > 1 for labels in chosen)
    return Control(
        tag=tags[kind],
        task=task,
        name=name,
        to_name=to_name,
        image_key=_image_key(path, content),
        classes=tuple(in_natural_order({label for labels in chosen for label in labels})) if listed else (),
        multiple=several and task != "face",
    )


def _asked(region: Mapping[str, Any]) -> tuple[str, str, str]:
    return region["type"], region["from_name"], region["to_name"]


def _labels(region: Mapping[str, Any]) -> Any:
    return region["value"].get(_label_key(region["type"]))


def _label_key(kind: str) -> str:
    return "text" if kind == "textarea" else kind


def _is_answer(region: Mapping[str, Any], kinds: Collection[str]) -> bool:
    """Whether it is of one of the kinds; a choice or a name for a part of an image has the part's place as well."""
    kind, value = region.get("type"), region.get("value")
    if not (
        isinstance(kind, str)
        and kind in kinds
        and isinstance(region.get("from_name"), str)
        and isinstance(region.get("to_name"), str)
        and isinstance(value, Mapping)
    ):
        return False
    labels = _labels(region)
    if not isinstance(labels, list):
        return False
    if kind in FOR_WHOLE_IMAGES and value.keys() != {_label_key(kind)}:
        return False
    return kind == "taxonomy" or all(isinstance(label, str) for label in labels)


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
