"""From what people write in settings to an object.

A spec is a name (`margin`), or a name with its parameters (`{"filter_then_diversify": {"keep": 5}}`), as a mapping
or as YAML or JSON text. A single value is the first parameter's (`{"budget": 400}`). A parameter that is itself
made from a spec is a spec again. A parameter's type is the one that the constructor is annotated with.
"""

import inspect
import json
import sys
import types
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, Union, get_args, get_origin

import yaml

_SCALARS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


class InvalidSpec(ValueError):
    """A spec that names nothing there is, or not its parameters. The message says what is wrong and what there is."""


class Registry:
    """What can be made from a spec, by name.

    kind: what its members are called in messages; plainest and example: specs to show in them.
    base: the type of the members; narrower: subtypes that some parameters want, each with what to tell of a
        member that is not of it.
    ours: for each name what makes it; our names stay ours.
    group: entry-point group by which packages add their own: the name is the spec's name, the object is called
        with the parameters.
    """

    def __init__(
        self,
        kind: str,
        ours: Mapping[str, Callable[..., Any]],
        *,
        base: type,
        narrower: Mapping[type, str],
        group: str,
        plainest: str,
        example: str,
    ) -> None:
        self.kind, self.ours, self.base, self.narrower = kind, ours, base, narrower
        self.group, self.plainest, self.example = group, plainest, example

    def names(self) -> list[str]:
        """All there are, ours and those of installed packages."""
        return sorted({*self.ours, *self._entry_points()})

    def make(self, spec: str | Mapping[str, Any]) -> Any:
        """What a spec describes. Raises InvalidSpec."""
        try:
            return self._build(_parse(self.kind, spec) if isinstance(spec, str) else spec)
        except RecursionError:
            raise InvalidSpec(f"The {self.kind} is nested too deeply.") from None

    def _entry_points(self) -> dict[str, EntryPoint]:
        return _entry_points(self.group, tuple(sys.path))

    def _build(self, spec: Any) -> Any:
        match spec:
            case str(name):
                values: Any = {}
            case Mapping() if len(spec) == 1:
                ((name, values),) = spec.items()
            case _:
                raise InvalidSpec(
                    f"{_short(spec)} is not a {self.kind}. Write a name, such as {self.plainest}, or one name "
                    f"with its parameters, such as {self.example}. {self._what_there_is()}"
                )
        maker = self.maker(name)
        parameters = inspect.signature(maker, eval_str=True).parameters
        arguments = self._arguments(name, {} if values is None else values, parameters)
        try:
            made = maker(**arguments)
        except InvalidSpec:
            raise
        except ValueError as error:
            raise InvalidSpec(f"{name}: {error}") from error
        if not isinstance(made, self.base):
            raise InvalidSpec(
                f"{name} made a {type(made).__name__}, which is not a {self.kind}: it lacks the attributes or "
                f"methods of {self.base.__name__}."
            )
        return made

    def _arguments(
        self, name: str, values: Any, parameters: Mapping[str, inspect.Parameter]
    ) -> dict[str, Any]:
        if not isinstance(values, Mapping):
            if not parameters:
                raise InvalidSpec(f"{name} has no parameters; write {name} alone.")
            values = {next(iter(parameters)): values}
        for key in values:
            if key not in parameters:
                raise InvalidSpec(
                    f"{name} has no parameter {_short(key)}.{_closest(key, parameters)} "
                    f"It has: {', '.join(parameters) or 'none'}."
                )
        for key, parameter in parameters.items():
            if parameter.default is parameter.empty and key not in values:
                raise InvalidSpec(f"{name} needs the parameter {key}.")
        return {
            key: self._convert(value, parameters[key].annotation, f"{name}.{key}")
            for key, value in values.items()
        }

    def maker(self, name: object) -> Callable[..., Any]:
        """What makes the member of this name: a class or a function, its parameters those of the spec.

        Raises InvalidSpec.
        """
        if isinstance(name, str) and name in self.ours:
            return self.ours[name]
        point = self._entry_points().get(name) if isinstance(name, str) else None
        if point is None:
            raise InvalidSpec(
                f"There is no {self.kind} {_short(name)}.{_closest(name, self.names())} {self._what_there_is()}"
            )
        try:
            maker: Callable[..., Any] = point.load()
        except Exception as error:
            raise InvalidSpec(
                f"The {self.kind} {name} of {point.value} cannot be loaded: {error!r}"
            ) from error
        return maker

    def _convert(self, value: Any, annotation: Any, where: str) -> Any:
        """The value as the type that a parameter is annotated with; types not known here are left to the maker."""
        origin, options = get_origin(annotation), get_args(annotation)
        if origin in (Union, types.UnionType):
            return self._convert_union(value, options, where)
        if origin is Literal:
            if value not in options:
                raise InvalidSpec(f"{where} is {_short(value)}; write one of: {', '.join(options)}.")
            return value
        if origin is tuple:
            if not isinstance(value, list | tuple):
                raise InvalidSpec(f"{where} is {_short(value)}; write a list: [a, b].")
            return tuple(self._convert(item, options[0], f"{where}[{i}]") for i, item in enumerate(value))
        if origin is not None and inspect.isclass(origin) and issubclass(origin, Mapping):
            if not isinstance(value, Mapping):
                raise InvalidSpec(f"{where} is {_short(value)}; write a mapping: {{name: value}}.")
            return {str(k): self._convert(v, options[1], f"{where}.{k}") for k, v in value.items()}
        if annotation in _SCALARS:
            fits = isinstance(value, int | float if annotation is float else annotation)
            if not fits or (isinstance(value, bool) and annotation is not bool):
                raise InvalidSpec(f"{where} is {_short(value)}; write {_SCALARS[annotation]}.")
            return annotation(value)
        if annotation is self.base or annotation in self.narrower:
            return self._convert_spec(value, annotation, where)
        return value

    def _convert_union(self, value: Any, options: tuple[Any, ...], where: str) -> Any:
        if value is None and type(None) in options:
            return None
        problems = []
        for option in options:
            if option is not type(None):
                try:
                    return self._convert(value, option, where)
                except InvalidSpec as problem:
                    problems.append(str(problem))
        raise InvalidSpec(" Or: ".join(problems))

    def _convert_spec(self, value: Any, annotation: type, where: str) -> Any:
        try:
            made = self._build(value)
        except InvalidSpec as error:
            raise InvalidSpec(f"{where}: {error}") from error
        if not isinstance(made, annotation):
            raise InvalidSpec(f"{where}: {made.name} {self.narrower[annotation]}")
        return made

    def _what_there_is(self) -> str:
        return f"There are: {', '.join(self.names())}."


@cache
def _entry_points(group: str, _path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """Those of the packages on the path, once: it takes some 15 ms to look through all packages."""
    return {point.name: point for point in entry_points(group=group)}


def _parse(kind: str, text: str) -> Any:
    try:
        return json.loads(text)  # YAML trips over tabs, which JSON may hold
    except json.JSONDecodeError:
        pass
    except ValueError:  # a number of thousands of digits
        raise InvalidSpec(f"The {kind} has a number that is too long.") from None
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise InvalidSpec(f"The {kind} uses YAML aliases (*name); write it out.")
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidSpec(f"The {kind} is neither a name nor YAML or JSON: {error}") from None


def _closest(name: object, names: Any) -> str:
    wanted = str(name).lower().replace("-", "_").replace(" ", "_")
    match = get_close_matches(wanted, names, n=1)
    return f" Did you mean {match[0]}?" if match else ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
