"""The command that lists the strategies."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.text import Text

from backend.cli.terminal import JsonOption, print_json, print_table

if TYPE_CHECKING:
    from strategies.catalogue import Parameter


def strategies(as_json: JsonOption = False) -> None:
    """List the strategies, those of installed packages too, each with its meaning and its parameters' defaults."""
    from strategies.catalogue import catalogue

    entries = catalogue()
    if as_json:
        print_json({"strategies": [asdict(entry) for entry in entries]})
        return
    rows: list[tuple[str | Text, str]] = []
    family = ""
    for entry in entries:
        if entry.family != family:
            family = entry.family
            rows += [("", ""), (Text(family, style="bold"), "")]
        rows.append((entry.name, "\n".join([entry.meaning, *map(_parameter, entry.parameters)])))
    print_table(("Name", "Meaning, and parameters"), rows)


def _parameter(parameter: "Parameter") -> str:
    default = "needed" if parameter.needed else f"default {_spec(parameter.default)}"
    return f"  {parameter.name}: {parameter.kind}, {default}"


def _spec(value: object) -> str:
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)
