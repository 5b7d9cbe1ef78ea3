"""From what people write in settings to a strategy.

A spec is a name (`margin`), or a name with its parameters (`{"filter_then_diversify": {"keep": 5}}`), as a mapping
or as YAML or JSON text. A parameter that is a strategy is a spec again. A parameter's type is the one that the
strategy's constructor is annotated with.

A package adds strategies by an entry point in the group `label_studio_active_learning.strategies`: its name is the
strategy's name, its object is called with the parameters and returns a `Strategy`. Names of our own stay ours.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any, get_args, get_origin

import yaml

from strategies.at_random import Random
from strategies.combination import FilterThenDiversify, Mixture
from strategies.committee import Bald, VoteEntropy
from strategies.density import InformationDensity
from strategies.diversity import KCenterGreedy
from strategies.protocol import Strategy
from strategies.scored import ScoredStrategy
from strategies.typicality import Typicality
from strategies.uncertainty import Entropy, LeastConfidence, Margin

GROUP = "label_studio_active_learning.strategies"

_OURS: dict[str, Callable[..., Strategy]] = {
    "random": Random,
    "least_confidence": LeastConfidence,
    "margin": Margin,
    "entropy": Entropy,
    "vote_entropy": VoteEntropy,
    "bald": Bald,
    "k_center_greedy": KCenterGreedy,
    "typicality": Typicality,
    "information_density": InformationDensity,
    "filter_then_diversify": FilterThenDiversify,
    "mixture": Mixture,
}


class InvalidStrategy(ValueError):
    """A spec that names no strategy or not its parameters. The message says what is wrong and what there is."""


def strategy(spec: str | Mapping[str, Any]) -> Strategy:
    """The strategy that a spec describes. Raises InvalidStrategy."""
    try:
        return _build(_parse(spec) if isinstance(spec, str) else spec)
    except RecursionError:
        raise InvalidStrategy("The strategy is nested too deeply.") from None


def strategy_names() -> list[str]:
    """All strategies there are, ours and those of installed packages."""
    return sorted({*_OURS, *_entry_points()})


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _parse(text: str) -> Any:
    try:
        return json.loads(text)  # YAML trips over tabs, which JSON may hold
    except json.JSONDecodeError:
        pass
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise InvalidStrategy("The strategy uses YAML aliases (*name); write it out.")
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidStrategy(f"The strategy is neither a name nor YAML or JSON: {error}") from None


def _build(spec: Any) -> Strategy:
    match spec:
        case str(name):
            values: Any = {}
        case Mapping() if len(spec) == 1:
            ((name, values),) = spec.items()
        case _:
            raise InvalidStrategy(
                f"{_short(spec)} is not a strategy. Write a name, such as margin, or one name with its "
                f"parameters, such as {{information_density: {{beta: 2}}}}. {_what_there_is()}"
            )
    maker = _maker(name)
    values = {} if values is None else values
    if not isinstance(values, Mapping):
        raise InvalidStrategy(
            f"{name}: {_short(values)} are not parameters; write them as {{parameter: value}}."
        )
    parameters = inspect.signature(maker, eval_str=True).parameters
    for key in values:
        if key not in parameters:
            raise InvalidStrategy(
                f"{name} has no parameter {_short(key)}.{_closest(key, parameters)} "
                f"It has: {', '.join(parameters) or 'none'}."
            )
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in values:
            raise InvalidStrategy(f"{name} needs the parameter {key}.")
    arguments = {
        key: _convert(value, parameters[key].annotation, f"{name}.{key}") for key, value in values.items()
    }
    try:
        made = maker(**arguments)
    except InvalidStrategy:
        raise
    except ValueError as error:
        raise InvalidStrategy(f"{name}: {error}") from error
    if not isinstance(made, Strategy):
        raise InvalidStrategy(
            f"{name} made a {type(made).__name__}, which is not a Strategy: it lacks name, needs or rank."
        )
    return made


def _maker(name: object) -> Callable[..., Strategy]:
    if not isinstance(name, str) or name not in strategy_names():
        raise InvalidStrategy(
            f"There is no strategy {_short(name)}.{_closest(name, strategy_names())} {_what_there_is()}"
        )
    if name in _OURS:
        return _OURS[name]
    point = _entry_points()[name]
    try:
        maker: Callable[..., Strategy] = point.load()
    except Exception as error:
        raise InvalidStrategy(f"The strategy {name} of {point.value} cannot be loaded: {error!r}") from error
    return maker


def _convert(value: Any, annotation: Any, where: str) -> Any:
    """The value as the type that a parameter is annotated with; types not known here are left to the strategy."""
    if annotation is Strategy or (inspect.isclass(annotation) and issubclass(annotation, ScoredStrategy)):
        try:
            made = _build(value)
        except InvalidStrategy as error:
            raise InvalidStrategy(f"{where}: {error}") from error
        if not isinstance(made, annotation):
            raise InvalidStrategy(
                f"{where}: {made.name} does not score each image by itself; take one that does, such as entropy."
            )
        return made
    if get_origin(annotation) is tuple:
        if not isinstance(value, list | tuple):
            raise InvalidStrategy(f"{where} is {_short(value)}; write a list: [a, b].")
        return tuple(_convert(item, get_args(annotation)[0], f"{where}[{i}]") for i, item in enumerate(value))
    wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    if annotation in wanted:
        fits = isinstance(value, int | float if annotation is float else annotation)
        if not fits or (isinstance(value, bool) and annotation is not bool):
            raise InvalidStrategy(f"{where} is {_short(value)}; write {wanted[annotation]}.")
        return annotation(value)
    return value


def _closest(name: object, names: Any) -> str:
    wanted = str(name).lower().replace("-", "_").replace(" ", "_")
    match = get_close_matches(wanted, names, n=1)
    return f" Did you mean {match[0]}?" if match else ""


def _what_there_is() -> str:
    return f"There are: {', '.join(strategy_names())}."


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
