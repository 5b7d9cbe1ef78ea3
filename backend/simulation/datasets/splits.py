"""Files that list the images of the test split."""

from collections.abc import Set
from pathlib import Path

from backend.simulation.datasets.class_names import read_text
from backend.simulation.datasets.errors import DatasetError

FOLDERS = ("splits", "ImageSets/Main")
FILES = ("test.txt", "val.txt")


def test_names(path: Path, known: Set[str]) -> set[str]:
    """The names, without suffix, of the images of the test split; empty where there is none.

    known: the names of all images.
    """
    for file in (path / folder / name for folder in FOLDERS for name in FILES):
        if not file.is_file():
            continue
        lines = [Path(line.strip()) for line in read_text(file).splitlines() if line.strip()]
        # A name may have a dot in it and no suffix.
        names = {line.name if line.name in known else line.stem for line in lines}
        if unknown := sorted(names - known):
            raise DatasetError(f"{file} names {unknown[0]!r}, but there is no such image: remove that line.")
        return names
    return set()
