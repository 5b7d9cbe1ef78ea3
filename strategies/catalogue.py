"""What strategies there are, for people: each with its family, its meaning, and its parameters with their defaults.

All of it is read from the registry and the strategies themselves.
"""

import dataclasses
import inspect
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from strategies.objective import Objective
from strategies.protocol import Strategy
from strategies.registry import FAMILIES, STRATEGIES
from strategies.scored import ScoredStrategy
from strategies.spec import InvalidSpec

OF_PACKAGES = "Of installed packages"
_WORDS: Mapping[object, str] = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "text",
    type(None): "none",
    Strategy: "strategy",
    ScoredStrategy: "strategy that scores each image by itself",
    Objective: "objective",
}


@dataclass(frozen=True)
class Parameter:
    """A parameter of a strategy.

    kind: what it takes, in words.
    needed: whether it has no default.
    default: as it is written in a spec.
    """

    name: str
    kind: str
    needed: bool
    default: Any


@dataclass(frozen=True)
class Entry:
    """A strategy: its standard name, its family, its meaning in a sentence, its parameters in order."""

    name: str
    family: str
    meaning: str
    parameters: tuple[Parameter, ...]


def catalogue() -> list[Entry]:
    """All strategies, ours family by family, then those of installed packages; one that cannot be loaded says so."""
    ours = [(name, family) for family, members in FAMILIES.items() for name in members]
    known = {name for name, _ in ours}
    others = [(name, OF_PACKAGES) for name in STRATEGIES.names() if name not in known]
    return [_entry(name, family) for name, family in ours + others]


def _entry(name: str, family: str) -> Entry:
    try:
        maker = STRATEGIES.maker(name)
        parameters = inspect.signature(maker, eval_str=True).parameters.values()
    except (InvalidSpec, ValueError, TypeError, NameError) as error:
        return Entry(name, family, str(error), ())
    meaning = " ".join((inspect.getdoc(maker) or "").partition("\n\n")[0].split())
    return Entry(name, family, meaning, tuple(_parameter(maker, parameter) for parameter in parameters))


def _parameter(maker: Any, parameter: inspect.Parameter) -> Parameter:
    needed = parameter.default is parameter.empty
    default = None if needed else _default(maker, parameter)
    return Parameter(parameter.name, _in_words(parameter.annotation), needed, _as_spec(default))


def _default(maker: Any, parameter: inspect.Parameter) -> Any:
    """A dataclass that makes its defaults when needed shows a marker in its signature."""
    if dataclasses.is_dataclass(maker):
        for field in dataclasses.fields(maker):
            if field.name == parameter.name and field.default_factory is not dataclasses.MISSING:
                return field.default_factory()
    return parameter.default


def _as_spec(value: Any) -> Any:
    """A strategy as it is written in a spec, with those parameters alone that differ from their defaults."""
    if isinstance(value, tuple):
        return [_as_spec(item) for item in value]
    if not isinstance(value, Strategy) or not dataclasses.is_dataclass(value):
        return value
    parameters = inspect.signature(type(value)).parameters
    chosen = {
        field.name: _as_spec(getattr(value, field.name))
        for field in dataclasses.fields(value)
        if field.init and getattr(value, field.name) != _default(type(value), parameters[field.name])
    }
    return {value.name: chosen} if chosen else value.name


def _in_words(annotation: Any) -> str:
    origin, options = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(map(_in_words, options))
    if origin is Literal:
        return " or ".join(map(str, options))
    if origin is tuple:
        return f"list of {_in_words(options[0])}"
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return f"mapping of name to {_in_words(options[1])}"
    return _WORDS.get(annotation, "anything")
