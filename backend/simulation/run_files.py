"""The runs of a simulation on disk: a file a run, a line a round, so that what is done is never done again."""

import fcntl
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from backend.simulation.replay import Round

DESCRIPTION = "simulation.json"


class ChangedSimulation(ValueError):
    """The folder holds the runs of another command; the message says what differs and what to do."""


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other simulations out of the folder. Raises ChangedSimulation where one is running in it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ChangedSimulation(
                f"A simulation is running in {folder}: wait for it, or choose another --out."
            ) from None
        yield


def check_same(folder: Path, description: Mapping[str, Any]) -> None:
    """Note what is simulated in a new folder, and hold later commands to it. Raises ChangedSimulation."""
    path = folder / DESCRIPTION
    new = json.loads(json.dumps(description))
    if not path.exists():
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(new, indent=2) + "\n")
        unfinished.replace(path)
        return
    old = json.loads(path.read_text())
    differences = [
        f"{name} was {_shown(old.get(name))}, and is now {_shown(new.get(name))}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]
    if differences:
        raise ChangedSimulation(
            f"{folder} holds a simulation that was made otherwise: {'; '.join(differences)}. "
            "Choose another --out for the new one, repeat the old command to go on with the old one, "
            "or delete the folder."
        )


def run_path(folder: Path, strategy: str, seed: int) -> Path:
    """The file of a run. A spec that is more than a name is told apart by its digest."""
    name = strategy
    if not re.fullmatch(r"\w+", strategy):
        start = "_".join(re.findall(r"\w+", strategy))[:60]
        name = f"{start}-{sha256(strategy.encode()).hexdigest()[:8]}"
    return folder / "runs" / f"{name}-{seed}.jsonl"


def read_rounds(path: Path) -> list[Round]:
    """The rounds of a run; a line that was not written to its end is cut off."""
    if not path.exists():
        return []
    text = path.read_text()
    whole, newline, torn = text.rpartition("\n")
    if torn:
        path.write_text(whole + newline)
    return [_round(json.loads(line)) for line in whole.splitlines()]


def append_round(path: Path, done: Round) -> None:
    """Add a round to a run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(asdict(done)) + "\n")


def _round(values: dict[str, Any]) -> Round:
    interval = values.pop("interval")
    return Round(**values, interval=None if interval is None else (interval[0], interval[1]))


def _shown(value: Any) -> str:
    return "not set" if value is None else str(value)
