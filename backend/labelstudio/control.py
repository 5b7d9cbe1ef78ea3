"""One control tag of a labeling config: what it asks annotators for, as far as the loop can learn it.

The names and attributes are Label Studio's own: https://labelstud.io/tags/.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self
from xml.etree.ElementTree import Element

from backend.labelstudio.taxonomy import path_class
from backend.targets import VisionTask

# What each control tag can be learned as; the first is meant where the config does not say.
TASKS: Mapping[str, tuple[VisionTask, ...]] = {
    "Choices": ("classification", "face"),
    "Taxonomy": ("face",),
    "TextArea": ("face",),
    "RectangleLabels": ("detection",),
    "PolygonLabels": ("segmentation",),
    "BrushLabels": ("segmentation",),
    "BitmaskLabels": ("segmentation",),
}
SETTING_PREFIX = "model_"
TASK_ATTRIBUTE = "model_task"
MOST_SETTINGS = 100  # `model_*` attributes of one tag
LONGEST_PATH = 500  # characters from the root of a Taxonomy to a leaf; each leaf repeats those of its parents


class UnsupportedConfig(ValueError):
    """The loop learns nothing of this labeling config. The message is an ASCII sentence with the remedy."""


@dataclass(frozen=True)
class Control:
    """One control tag that the loop learns.

    tag: its name, one of TASKS. task: what it is learned as.
    name, to_name: `from_name` and `to_name` of its results.
    image_key: key of the image in a task's data; a dot steps into a nested object.
    classes: what a result contains, in the config's order: the alias of a Choice or Label if it has one, else its
        value; of a Taxonomy, the paths to its leaves (see `taxonomy.path_class`). Empty where the config lists none:
        a TextArea, or a Taxonomy that is fetched.
    multiple: whether an image may have several classes, or none. It always may where its parts have them.
    boxes: the rectangle control for whose regions it is asked; None if it is asked for nothing but the image.
    box_label: a label that those regions have; None if they have none.
    settings: `model_*` attributes without their prefix; the control tag's win over the root View's.
    """

    tag: str
    task: VisionTask
    name: str
    to_name: str
    image_key: str
    classes: tuple[str, ...]
    multiple: bool
    boxes: str | None = None
    box_label: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def in_boxes(self) -> bool:
        """Whether it is asked for boxes in the image rather than for the image."""
        return self.boxes is not None


@dataclass(frozen=True)
class Surroundings:
    """What the rest of a labeling config says of each of its controls; read once for all of them.

    image_keys: name of each Image tag → its key in a task's data; at least one.
    task, settings: the `model_*` attributes of the root View; see `settings`.
    boxes: an image's name and a `whenLabelValue` → the rectangle control and the label of the regions that a control on
        that image is asked for.
    """

    image_keys: Mapping[str, str]
    task: str | None
    settings: Mapping[str, str]
    boxes: Mapping[tuple[str, str], tuple[str, str | None]]

    @classmethod
    def of(cls, root: Element, image_keys: Mapping[str, str]) -> Self:
        """Those that a root View holds. Raises UnsupportedConfig."""
        return cls(image_keys, root.get(TASK_ATTRIBUTE), settings(root), _boxes_in(root))


def read_control(tag: Element, around: Surroundings) -> Control:
    """The control of a tag in TASKS. Raises UnsupportedConfig."""
    name, to_name = tag.get("name", ""), tag.get("toName", "")
    if not name or to_name not in around.image_keys:
        raise UnsupportedConfig(
            f"{shown(tag)} must have a name and be on the image: write toName={quoted(next(iter(around.image_keys)))}."
        )
    task = _task(tag, around)
    boxes, box_label = _boxes(tag, task, around)
    return Control(
        tag=tag.tag,
        task=task,
        name=name,
        to_name=to_name,
        image_key=around.image_keys[to_name],
        classes=_classes(tag, task),
        multiple=_is_multiple(tag, task) or boxes is not None,
        boxes=boxes,
        box_label=box_label,
        settings={**around.settings, **settings(tag)},
    )


def settings(tag: Element) -> dict[str, str]:
    """The `model_*` attributes of a tag, without their prefix and without the task. Raises UnsupportedConfig."""
    found = {
        key.removeprefix(SETTING_PREFIX): value
        for key, value in tag.attrib.items()
        if key.startswith(SETTING_PREFIX) and key != TASK_ATTRIBUTE
    }
    if len(found) > MOST_SETTINGS:
        raise UnsupportedConfig(
            f"{quoted(tag.tag)} has {len(found)} {SETTING_PREFIX}* attributes, and at most {MOST_SETTINGS} are read: "
            "remove those that are no settings."
        )
    return found


def _task(tag: Element, around: Surroundings) -> VisionTask:
    """What a control is learned as: as it says, else as the root View says, else as its tag is meant."""
    tasks = TASKS[tag.tag]
    asked = tag.get(TASK_ATTRIBUTE)
    for task in tasks:
        if task == (asked or around.task):
            return task
    if asked:
        remedy = " or ".join(f'{TASK_ATTRIBUTE}="{task}"' for task in tasks)
        raise UnsupportedConfig(f"{shown(tag)} cannot be learned as {quoted(asked)}: write {remedy}.")
    if tasks[0] == "face":
        raise UnsupportedConfig(
            f'{shown(tag)} is learned only where it names people: write {TASK_ATTRIBUTE}="face" if it does.'
        )
    return tasks[0]


def _boxes(tag: Element, task: VisionTask, around: Surroundings) -> tuple[str | None, str | None]:
    """The rectangle control for whose regions a control is asked, and the label of those regions."""
    if attribute(tag, "perItem").lower() == "true":
        raise UnsupportedConfig(
            f"{shown(tag)} is asked for parts of an image: remove perItem to ask it once an image."
        )
    if attribute(tag, "perRegion").lower() != "true":
        return None, None
    if task == "classification":
        raise UnsupportedConfig(
            f"{shown(tag)} is asked for parts of an image: remove perRegion to ask it once an image, "
            f'or write {TASK_ATTRIBUTE}="face" if it names people.'
        )
    if task != "face":
        return None, None  # Label Studio ignores it
    asked_for = around.boxes.get((tag.get("toName", ""), attribute(tag, "whenLabelValue")))
    if asked_for is None:
        raise UnsupportedConfig(
            f"{shown(tag)} is asked for regions: add <RectangleLabels> with a <Label> for them on the same image."
        )
    return asked_for


def _boxes_in(root: Element) -> dict[tuple[str, str], tuple[str, str | None]]:
    """See `Surroundings.boxes`; of several, the first. Asked for no label in particular, that is the first of all."""
    found: dict[tuple[str, str], tuple[str, str | None]] = {}
    for tag in root.iter():
        name, to_name = tag.get("name"), tag.get("toName", "")
        if name and tag.tag == "Rectangle":
            found.setdefault((to_name, ""), (name, None))
        if name and tag.tag == "RectangleLabels":
            for label in filter(_class, _tagged(tag, "Label")):
                for wanted in ("", label.get("value", ""), label.get("alias", "")):
                    found.setdefault((to_name, wanted), (name, _class(label)))
    return found


def _is_multiple(tag: Element, task: VisionTask) -> bool:
    if tag.tag != "Choices":
        return task != "face"
    mode = tag.get("choice", "single")
    if mode not in ("single", "single-radio", "multiple"):
        raise UnsupportedConfig(
            f'{shown(tag)} has an unknown mode: write choice="single" or choice="multiple".'
        )
    if mode == "multiple" and task == "face":
        raise UnsupportedConfig(
            f'{shown(tag)} allows several people for one face: write choice="single", and perRegion="true" '
            "with <RectangleLabels> to name several in an image."
        )
    return mode == "multiple"


def _classes(tag: Element, task: VisionTask) -> tuple[str, ...]:
    if tag.tag == "TextArea":
        return ()
    from_data = bool(tag.get("value") or attribute(tag, "apiUrl"))
    if tag.tag == "Taxonomy":
        return () if from_data else tuple(dict.fromkeys(_leaves(tag)))
    kind = "Choice" if tag.tag == "Choices" else "Label"
    if from_data:
        raise UnsupportedConfig(
            f"{shown(tag)} takes its classes from the task data: list them as <{kind}> tags in place of the value."
        )
    if attribute(tag, "allowNested").lower() == "true":
        raise UnsupportedConfig(f"{shown(tag)} nests its classes: list them flat and remove allowNested.")
    classes = tuple(dict.fromkeys(name for each in _tagged(tag, kind) if (name := _class(each))))
    if len(classes) < (1 if _is_multiple(tag, task) else 2):
        raise UnsupportedConfig(f"{shown(tag)} has too few classes to learn: add <{kind}> tags.")
    return classes


def _tagged(control: Element, kind: str) -> Iterator[Element]:
    """The Choice or Label tags of a control, in order, but for those of a control inside it.

    Label Studio shows a Choice inside a Choice only with allowNested, so those are left out.
    """
    pending = list(reversed(control))
    while pending:
        tag = pending.pop()
        if tag.tag == kind:
            yield tag
        elif tag.tag not in TASKS:
            pending.extend(reversed(tag))


def _leaves(taxonomy: Element) -> Iterator[str]:
    """The paths to the leaves of a Taxonomy. Raises UnsupportedConfig."""
    pending: list[tuple[Element, tuple[str, ...]]] = [(taxonomy, ())]
    while pending:
        tag, path = pending.pop()
        if sum(map(len, path)) > LONGEST_PATH:
            raise UnsupportedConfig(
                f"{shown(taxonomy)} has a path of more than {LONGEST_PATH} characters: "
                "shorten its choices, or nest them less deeply."
            )
        choices = [(each, (*path, name)) for each in _tagged(tag, "Choice") if (name := _class(each))]
        if path and not choices:
            yield path_class(path)
        pending.extend(reversed(choices))


def _class(tag: Element) -> str | None:
    """What a result says of a Choice or Label; None for one that Label Studio leaves out as well."""
    return tag.get("alias") or tag.get("value") or None


def shown(tag: Element) -> str:
    """A tag, in a message."""
    return f"{tag.tag} {quoted(tag.get('name', ''))}"


def attribute(tag: Element, name: str) -> str:
    """Label Studio's editor ignores the case of attribute names."""
    return next((value for key, value in tag.attrib.items() if key.lower() == name.lower()), "")


def quoted(text: str, length: int = 30) -> str:
    """Text from a config, safe in an HTTP reason phrase: ASCII, one line, short."""
    shown = ascii(text)
    return shown if len(shown) <= length else shown[: length - 4] + "..." + shown[-1]
