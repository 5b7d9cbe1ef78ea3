"""The names of classes: their order, and the file that lists them."""

import re
from collections.abc import Iterable
from pathlib import Path

from backend.simulation.datasets.errors import DatasetError

CLASS_FILE = "classes.txt"


def in_natural_order(names: Iterable[str]) -> list[str]:
    """Sorted as people would: s2 before s10."""
    return sorted(
        names, key=lambda name: ([_number_or_text(part) for part in re.split(r"(\d+)", name)], name)
    )


def _number_or_text(part: str) -> tuple[int, str]:
    return (int(part), "") if part.isdecimal() else (-1, part)


def listed_classes(folder: Path) -> list[str] | None:
    """The names in a folder's `classes.txt`, the one of class 0 first; None: it has no such file."""
    path = folder / CLASS_FILE
    if not path.is_file():
        return None
    names = [line.strip() for line in read_text(path).splitlines()]
    while names and not names[-1]:
        names.pop()
    if not names or "" in names or len(set(names)) < len(names):
        raise DatasetError(f"{path} must have the name of a class on each line, no two alike.")
    return names


def read_text(path: Path) -> str:
    """The text of a file. Raises DatasetError where it is none."""
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise DatasetError(f"{path} is no text in UTF-8: save it as that.") from None
