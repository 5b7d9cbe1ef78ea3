"""What a project's labeling config asks annotators for, as far as the loop can learn it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml import DefusedXmlException

from backend.labelstudio.control import (
    TASKS,
    Control,
    Surroundings,
    UnsupportedConfig,
    attribute,
    quoted,
    read_control,
    settings,
    shown,
)

__all__ = ["Control", "LabelingConfig", "UnsupportedConfig", "read_labeling_config"]

IMAGE_VALUE = re.compile(r"\$([A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*)")
# The key under which Label Studio keeps an uploaded file until a labeling config names its key.
UNDEFINED_KEY = "$undefined$"
# Regions that Label Studio stores apart from their labels.
UNLABELED = ("Rectangle", "Polygon", "Brush", "Bitmask", "MagicWand")
LARGEST = 1_000_000  # characters; thousands of classes are far fewer
MOST_CONTROLS = 100  # of the tags that can be learned
KNOWN = "Choices, RectangleLabels, PolygonLabels, BrushLabels or BitmaskLabels"
NO_CONTROL = (
    "The labeling config has no control tag: add <Choices> with <Choice> tags, or <RectangleLabels> with <Label> tags, "
    "on the image."
)


@dataclass(frozen=True)
class LabelingConfig:
    """All that the loop learns of a project.

    controls: at least one, in the config's order, all on the image that the first is on.
    settings: `model_*` attributes without their prefix; those of a control win over the root View's, and those of an
        earlier control over a later one's.
    left_out: an ASCII sentence for each control tag that is not learned, with the reason.
    """

    controls: tuple[Control, ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    @property
    def image_key(self) -> str:
        """Key of the image in a task's data; a dot steps into a nested object."""
        return self.controls[0].image_key

    def image_source(self, task_data: Mapping[str, Any]) -> str | None:
        """Where the image of a task is, as written in the task's data. None: the task has none."""
        value: Any = task_data
        for key in self.image_key.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is None:
            value = task_data.get(UNDEFINED_KEY)
        return value if isinstance(value, str) and value else None


def read_labeling_config(xml: str) -> LabelingConfig:
    """Every control tag that the loop can learn.

    Raises UnsupportedConfig where that is none, with the reason for the first control tag that came near.
    """
    root = _parse(xml)
    around = Surroundings.of(root, _image_keys(root))
    tags = [tag for tag in root.iter() if tag.tag in TASKS]
    if len(tags) > MOST_CONTROLS:
        raise UnsupportedConfig(
            f"The labeling config has {len(tags):,} control tags, and at most {MOST_CONTROLS} can be learned together: "
            "ask for fewer in one project."
        )
    controls: list[Control] = []
    chosen: dict[str, str] = {}
    left_out: list[str] = []
    for tag in tags:
        try:
            control = read_control(tag, around)
            _check_image(control, controls)
        except UnsupportedConfig as reason:
            left_out.append(str(reason))
        else:
            controls.append(control)
            chosen = settings(tag) | chosen
    left_out += _unknown(root, controls)
    if not controls:
        raise UnsupportedConfig(left_out[0] if left_out else NO_CONTROL)
    return LabelingConfig(tuple(controls), {**around.settings, **chosen}, tuple(left_out))


def _parse(xml: str) -> Element:
    if len(xml) > LARGEST:
        raise UnsupportedConfig(
            f"The labeling config has {len(xml):,} characters, and at most {LARGEST:,} are read: make it smaller."
        )
    try:
        root: Element = defusedxml.ElementTree.fromstring(xml, forbid_dtd=True)
    except DefusedXmlException:
        raise UnsupportedConfig(
            "The labeling config has a DOCTYPE or an entity: remove it, Label Studio forbids it as well."
        ) from None
    except (ParseError, ValueError) as error:
        raise UnsupportedConfig(
            f"The labeling config is not well-formed XML: {quoted(str(error), 60)}. Correct it there."
        ) from None
    return root


def _image_keys(root: Element) -> dict[str, str]:
    """Name of each Image tag → its key in a task's data."""
    keys = {}
    refused = None
    for image in root.iter("Image"):
        name = image.get("name", "")
        value = IMAGE_VALUE.fullmatch(image.get("value", ""))
        if attribute(image, "valueList"):
            refused = UnsupportedConfig(
                f"Image {quoted(name)} shows several images of a task (valueList): "
                'give each task one image, with value="$image".'
            )
        elif not name or not value:
            refused = UnsupportedConfig(
                f"Image {quoted(name)} needs a name and one key of the task data as its value: "
                'write <Image name="image" value="$image"/>.'
            )
        else:
            keys[name] = value[1]
    if keys:
        return keys
    raise refused or UnsupportedConfig(
        'The labeling config has no image: add <Image name="image" value="$image"/>.'
    )


def _check_image(control: Control, controls: Sequence[Control]) -> None:
    if controls and control.to_name != controls[0].to_name:
        raise UnsupportedConfig(
            f"{control.tag} {quoted(control.name)} is on another image than {quoted(controls[0].name)}: "
            "ask for both images in projects of their own."
        )


def _unknown(root: Element, controls: Sequence[Control]) -> list[str]:
    """A sentence for each control tag of another kind."""
    asked = {control.boxes for control in controls}
    return [
        _not_learned(tag)
        for tag in root.iter()
        if tag.tag not in TASKS
        and tag.tag != "Filter"
        and tag.get("toName")
        and tag.get("name")
        and tag.get("name") not in asked
    ]


def _not_learned(tag: Element) -> str:
    if tag.tag in ("KeyPoint", "KeyPointLabels"):
        return f"{shown(tag)} asks for key points, which cannot be learned: use {KNOWN}."
    if tag.tag == "Labels" or tag.tag in UNLABELED:
        return (
            f"{shown(tag)} keeps regions and their labels in two tags: write both as one, "
            "<RectangleLabels>, <PolygonLabels>, <BrushLabels> or <BitmaskLabels>."
        )
    return f"{quoted(tag.tag)} {quoted(tag.get('name', ''))} cannot be learned: use {KNOWN}."
