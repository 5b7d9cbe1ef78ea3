"""What commands print: for people, in words and tables that wrap; for scripts, one JSON document."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

console = Console()
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else.")]


def print_json(document: Any) -> None:
    """The document, and nothing else, on standard output."""
    typer.echo(json.dumps(document, indent=1, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table whose last column takes the room that is left. Cells are wrapped, never cut."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for position, column in enumerate(columns):
        last = position == len(columns) - 1
        table.add_column(column, overflow="fold", ratio=1 if last else None)
    for row in rows:
        table.add_row(*map(_plain, row))
    console.print(table, highlight=False)


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)  # a title or a class in brackets is no markup
