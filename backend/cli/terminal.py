"""What commands print: for people, in words and tables that wrap; for scripts, one JSON document."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from backend.printable import printable, printable_lines

console = Console()
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else.")]


def print_json(document: Any) -> None:
    """The document, and nothing else, on standard output."""
    typer.echo(printable_lines(json.dumps(document, indent=1, ensure_ascii=False)))


def print_text(text: str) -> None:
    """A line of text, which the terminal wraps; what it quotes is no markup, and nothing that a terminal obeys."""
    console.print(printable(text), highlight=False, markup=False, soft_wrap=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
    """A table whose last column takes the room that is left. Cells are wrapped, never cut."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns[:-1]:
        table.add_column(column, overflow="fold")
    table.add_column(columns[-1], overflow="fold", ratio=1)
    for row in rows:  # what is in brackets, in a class or a title, is no markup
        table.add_row(*(cell if isinstance(cell, Text) else Text(printable_lines(cell)) for cell in row))
    console.print(table, highlight=False)
