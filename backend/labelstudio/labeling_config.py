"""What a project's labeling config asks annotators for, as far as the loop can learn it.

The names and attributes are Label Studio's own: https://labelstud.io/tags/choices and https://labelstud.io/tags/image.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml import DefusedXmlException

IMAGE_VALUE = re.compile(r"\$([A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*)")
# The key under which Label Studio keeps an uploaded file until a labeling config names its key.
UNDEFINED_KEY = "$undefined$"
SETTING_PREFIX = "model_"


class UnsupportedConfig(ValueError):
    """The loop learns nothing of this labeling config. The message is an ASCII sentence with the remedy."""


@dataclass(frozen=True)
class Control:
    """One control tag that the loop learns.

    name, to_name: `from_name` and `to_name` of its results.
    image_key: key of the image in a task's data; a dot steps into a nested object.
    classes: what a result contains, in the config's order: a Choice's alias if it has one, else its value.
    multiple: whether an annotator may choose several classes, or none.
    settings: `model_*` attributes without their prefix; the control tag's win over the root View's.
    """

    kind: Literal["choices"]
    name: str
    to_name: str
    image_key: str
    classes: tuple[str, ...]
    multiple: bool
    settings: Mapping[str, str] = field(default_factory=dict)

    def image_source(self, task_data: Mapping[str, Any]) -> str | None:
        """Where the image of a task is, as written in the task's data. None: the task has none."""
        value: Any = task_data
        for key in self.image_key.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is None:
            value = task_data.get(UNDEFINED_KEY)
        return value if isinstance(value, str) and value else None


def read_labeling_config(xml: str) -> Control:
    """The first control tag, in the config's order, that the loop learns.

    Raises UnsupportedConfig, with the reason for the first control tag that came near.
    """
    root = _parse(xml)
    image_keys = _image_keys(root)
    reasons: list[UnsupportedConfig] = []
    for choices in root.iter("Choices"):
        try:
            return _read_choices(choices, root, image_keys)
        except UnsupportedConfig as reason:
            reasons.append(reason)
    raise reasons[0] if reasons else _no_choices(root)


def _parse(xml: str) -> Element:
    try:
        root: Element = defusedxml.ElementTree.fromstring(xml, forbid_dtd=True)
    except DefusedXmlException:
        raise UnsupportedConfig(
            "The labeling config has a DOCTYPE or an entity: remove it, Label Studio forbids it as well."
        ) from None
    except (ParseError, ValueError) as error:
        raise UnsupportedConfig(
            f"The labeling config is not well-formed XML: {_quoted(str(error), 60)}. Correct it there."
        ) from None
    return root


def _image_keys(root: Element) -> dict[str, str]:
    """Name of each Image tag → its key in a task's data."""
    keys = {}
    refused = None
    for image in root.iter("Image"):
        name = image.get("name", "")
        value = IMAGE_VALUE.fullmatch(image.get("value", ""))
        if _attribute(image, "valueList"):
            refused = UnsupportedConfig(
                f"Image {_quoted(name)} shows several images of a task (valueList): "
                'give each task one image, with value="$image".'
            )
        elif not name or not value:
            refused = UnsupportedConfig(
                f"Image {_quoted(name)} needs a name and one key of the task data as its value: "
                'write <Image name="image" value="$image"/>.'
            )
        else:
            keys[name] = value[1]
    if keys:
        return keys
    raise refused or UnsupportedConfig(
        'The labeling config has no image: add <Image name="image" value="$image"/>.'
    )


def _read_choices(choices: Element, root: Element, image_keys: Mapping[str, str]) -> Control:
    name, to_name = choices.get("name", ""), choices.get("toName", "")
    shown = f"Choices {_quoted(name)}"
    if not name or to_name not in image_keys:
        raise UnsupportedConfig(
            f"{shown} must have a name and be on the image: write toName={_quoted(next(iter(image_keys)))}."
        )
    for per in ("perRegion", "perItem"):
        if _attribute(choices, per).lower() == "true":
            raise UnsupportedConfig(
                f"{shown} is asked for parts of an image: remove {per} to ask it once an image."
            )
    if choices.get("value"):
        raise UnsupportedConfig(
            f"{shown} takes its classes from the task data: list them as <Choice> tags in place of the value."
        )
    if _attribute(choices, "allowNested").lower() == "true":
        raise UnsupportedConfig(f"{shown} nests its classes: list them flat and remove allowNested.")
    mode = choices.get("choice", "single")
    if mode not in ("single", "single-radio", "multiple"):
        raise UnsupportedConfig(f'{shown} has an unknown mode: write choice="single" or choice="multiple".')
    classes = _classes(choices)
    if len(classes) < (1 if mode == "multiple" else 2):
        raise UnsupportedConfig(f"{shown} has too few classes to learn: add <Choice> tags.")
    return Control(
        kind="choices",
        name=name,
        to_name=to_name,
        image_key=image_keys[to_name],
        classes=classes,
        multiple=mode == "multiple",
        settings=_settings(root) | _settings(choices),
    )


def _classes(choices: Element) -> tuple[str, ...]:
    """Label Studio shows a Choice inside a Choice only with allowNested, so those are no classes here."""
    classes: dict[str, None] = {}
    pending = list(reversed(choices))
    while pending:
        tag = pending.pop()
        if tag.tag != "Choice":
            pending.extend(reversed(tag))
        elif value := tag.get("alias") or tag.get("value"):
            classes[value] = None
    return tuple(classes)


def _settings(tag: Element) -> dict[str, str]:
    return {
        key.removeprefix(SETTING_PREFIX): value
        for key, value in tag.attrib.items()
        if key.startswith(SETTING_PREFIX)
    }


def _no_choices(root: Element) -> UnsupportedConfig:
    seen = sorted({tag.tag for tag in root.iter() if tag.get("name") and tag.get("toName")})
    found = f"only {_quoted(', '.join(seen), 60)}" if seen else "no control tag"
    return UnsupportedConfig(
        f"The labeling config has {found}: add a <Choices> tag with <Choice> tags on the image."
    )


def _attribute(tag: Element, name: str) -> str:
    """Label Studio's editor ignores the case of attribute names."""
    return next((value for key, value in tag.attrib.items() if key.lower() == name.lower()), "")


def _quoted(text: str, length: int = 30) -> str:
    """Text from a config, safe in an HTTP reason phrase: ASCII, one line, short."""
    shown = ascii(text)
    return shown if len(shown) <= length else shown[: length - 4] + "..." + shown[-1]
