"""The form of the loop's settings: each with what it means, what holds, and where that was set."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic.fields import FieldInfo

from backend.labelstudio.labeling_config import UnsupportedConfig, read_labeling_config
from backend.settings import InvalidSettings, LoopSettings, set_in_environment
from backend.store.tables import Project


@dataclass(frozen=True)
class Field:
    """One setting. source: "labeling config", "project", "environment" or "default"."""

    name: str
    meaning: str
    value: str
    default: str
    source: str
    options: tuple[str, ...]  # to choose from; none: free text
    fixed: bool  # by the labeling config, which wins


def fields(project: Project) -> list[Field]:
    """Every setting of the project's loop."""
    try:
        in_config: Mapping[str, str] = read_labeling_config(project.label_config).settings
        settings = LoopSettings.resolve(in_config, project.extra_params)
    except (UnsupportedConfig, InvalidSettings):
        in_config, settings = {}, LoopSettings()
    return [
        Field(
            name,
            description.description or "",
            as_text(getattr(settings, name)),
            as_text(description.get_default()),
            _source(name, in_config, project.extra_params),
            _options(name, description),
            name in in_config,
        )
        for name, description in LoopSettings.model_fields.items()
    ]


def changes(form: Mapping[str, str], project: Project) -> dict[str, Any]:
    """What a filled-in form changes, by the setting's name; None: back to the default.

    Only fields that were altered count, so that what the environment sets is not copied into the project.
    """
    changed: dict[str, Any] = {}
    for one in fields(project):
        given = form.get(one.name)
        if given is None or one.fixed or given.strip() == one.value.strip():
            continue
        changed[one.name] = None if not given.strip() else _parsed(given)
    return changed


def as_text(value: Any) -> str:
    """A setting as people write it."""
    if isinstance(value, bool | Mapping | list):
        return json.dumps(value)
    return "" if value is None else str(value)


def _parsed(text: str) -> Any:
    """What JSON says, or the text itself: a name, or a spec in YAML, which those who read specs know."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _source(name: str, in_config: Mapping[str, str], extra_params: Mapping[str, Any]) -> str:
    if name in in_config:
        return "labeling config"
    if name in extra_params:
        return "project"
    return "environment" if set_in_environment(name) else "default"


def _options(name: str, description: FieldInfo) -> tuple[str, ...]:
    if description.annotation is bool:
        return ("true", "false")
    return tuple(str(option) for option in get_args(description.annotation) if isinstance(option, str))
