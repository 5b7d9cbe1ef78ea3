"""A choice in a Taxonomy, which is a path from its root down, as one class."""

import re
from collections.abc import Sequence

SEPARATOR = " / "


def path_class(path: Sequence[str]) -> str:
    """The names of a path as one; slashes within a name are escaped, so that `class_path` undoes it."""
    return SEPARATOR.join(re.sub(r"[\\/]", r"\\\g<0>", name) for name in path)


def class_path(name: str) -> list[str]:
    """The names of the path that a class is made of."""
    return [re.sub(r"\\(.)", r"\1", part, flags=re.DOTALL) for part in name.split(SEPARATOR)]
