"""A worker that meets with an accident, as a test plans it: `python -m tests.end_to_end.faulty_worker FOLDER`.

It is the worker of the command line, with the steps of the round and some of the calls that they make wrapped.
The accidents to come lie in FOLDER; the first one happens when its moment comes, the next one after it. A worker
that was killed is started again: each life is a process of its own, forked from one that has imported everything.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import numpy as np
from huey.consumer import Scheduler
from numpy.typing import NDArray
from PIL.Image import Image

from backend import cli
from backend.labelstudio.client import LabelStudio
from backend.loop import embedders, events, publishing
from backend.loop import round as rounds
from backend.loop.steps import STEPS
from backend.store import leases, tables
from backend.store.embeddings import EmbeddingStore

IMPORT_CHUNK = 8  # so that a small window takes several imports
LEASE_SECONDS = 4.0
PATIENCE = 5.0  # seconds that a request to Label Studio may take
FIRST_WAIT, LONGEST_WAIT = 0.5, 2.0  # seconds
LAST_REQUESTS = 0.1  # seconds, at least, before what was published is deleted
RECONCILE_SECONDS = 10.0


class Faults:
    """The accidents planned for a worker, and what it has done; for the test and for the worker.

    An accident is a moment and a deed. Moments: "fit before", "fit after", and so on for each step;
    "import_predictions 2 after" for the second such call since this accident is the next. Deeds: "kill" and "stop" this
    process, "raise" an error, and, for as long as it stays planned, "wait" or have "no space" on the disk.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self._plan, self._journal = folder / "plan.json", folder / "journal"
        self._clock = folder / "clock"
        self.noted_before = 0  # lines that the journal had when this process last planned

    def plan(self, *accidents: tuple[str, str]) -> None:
        """Plan accidents, in this order, in place of those that were planned."""
        self.noted_before = len(self.journal())
        unfinished = self._plan.with_suffix(".part")
        unfinished.write_text(json.dumps(accidents))
        unfinished.replace(self._plan)

    def planned(self) -> list[tuple[str, str]]:
        """The accidents that have not happened yet; a "wait" that has begun is still among them."""
        return [tuple(entry) for entry in json.loads(self._plan.read_text())] if self._plan.exists() else []

    def shift_clock(self, seconds: float) -> None:
        """Put the worker's clock forward, or back, against the machine's."""
        self._clock.write_text(str(seconds))

    def shift(self) -> timedelta:
        """How far the worker's clock is ahead."""
        return timedelta(seconds=float(self._clock.read_text())) if self._clock.exists() else timedelta()

    def note(self, line: str) -> None:
        """Write a line to the journal."""
        with self._journal.open("a") as journal:
            journal.write(f"{line}\n")

    def journal(self) -> list[str]:
        """What the worker noted, oldest first."""
        return self._journal.read_text().splitlines() if self._journal.exists() else []


class Accidents:
    """The worker's side: what happens at each moment."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._calls: dict[str, int] = {}
        self._next: list[tuple[str, str]] = []

    def wrap(self, name: str, call: Callable[..., Any], counted: bool = True) -> Callable[..., Any]:
        """`call`, with a moment before and one after it."""

        def wrapped(*arguments: Any, **named: Any) -> Any:
            number = f" {self._count(name)}" if counted else ""
            self._at(f"{name}{number} before")
            result = call(*arguments, **named)
            self._at(f"{name}{number} after")
            return result

        return wrapped

    def wrap_step(self, name: str, step: Callable[[Any], None]) -> Callable[[Any], None]:
        """A step, its beginning and end in the journal."""
        inner = self.wrap(name, step, counted=False)

        def wrapped(run: Any) -> None:
            self._faults.note(f"{os.getpid()} begins {name} of project {run.project_id}")
            inner(run)
            self._faults.note(f"{os.getpid()} ends {name} of project {run.project_id}")

        return wrapped

    def clock(self) -> type[datetime]:
        """The type whose `now` the backend asks for the time."""
        faults = self._faults

        class Clock(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:
                return datetime.now(tz) + faults.shift()

        return Clock

    def _count(self, name: str) -> int:
        """The how-many-eth call this is since the next accident was planned."""
        planned = self._faults.planned()[:1]
        if planned != self._next:
            self._calls, self._next = {}, planned
        self._calls[name] = self._calls.get(name, 0) + 1
        return self._calls[name]

    def _at(self, moment: str) -> None:
        planned = self._faults.planned()
        if not planned or planned[0][0] != moment:
            return
        deed = planned[0][1]
        self._faults.note(f"{os.getpid()} {deed} at {moment}")
        if deed == "no space":
            self._calls = {}  # what is tried again is the first such call again
            raise OSError(28, "No space left on device")
        while deed == "wait" and self._faults.planned()[:1] == planned[:1]:
            time.sleep(0.05)
        if deed != "wait":
            self._faults.plan(*planned[1:])
        if deed == "raise":
            raise RuntimeError(f"planned at {moment}")
        if deed == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if deed == "stop":
            _stop_between_transactions()


STOP_ON_SQLITE = """
import os, signal, sqlite3, sys
process, *databases = sys.argv[1:]
connections = [sqlite3.connect(database, timeout=60, isolation_level=None) for database in databases]
for connection in connections:
    connection.execute("BEGIN IMMEDIATE")
os.kill(int(process), signal.SIGSTOP)
"""

# Somebody else's transaction ends by itself; one that does not is of the process that was stopped.
STOP_ON_POSTGRESQL = """
import os, signal, sys, time
from backend.store.database import Database
process, url = int(sys.argv[1]), sys.argv[2]
writers = "SELECT pid, backend_xid::text FROM pg_stat_activity"
writers += " WHERE datname = current_database() AND backend_xid IS NOT NULL"
with Database(url).engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
    def writing():
        return set(map(tuple, connection.exec_driver_sql(writers)))
    while True:
        os.kill(process, signal.SIGSTOP)
        before = writing()
        for _ in range(20):
            if not before & writing():
                sys.exit()
            time.sleep(0.05)
        os.kill(process, signal.SIGCONT)
        time.sleep(0.05)
"""


def _stop_between_transactions() -> None:
    """Stop this process while no thread of it is about to commit what it wrote: others would wait for it in vain."""
    if url := os.environ["DATABASE_URL"]:
        program, stores = STOP_ON_POSTGRESQL, [url]
    else:
        program, stores = STOP_ON_SQLITE, [str(path) for path in Path(os.environ["MODEL_DIR"]).glob("*.db")]
        assert stores
    subprocess.run([sys.executable, "-c", program, str(os.getpid()), *stores], check=True)


class Pixels:
    """Embeds an image as its pixels: training a network for each project would take longer than all the rest."""

    name, dimension, size = "pixels", 256, 16

    def embed(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """(images, 256), each row of length 1."""
        pixels = np.stack([np.asarray(image.convert("L").resize((16, 16)), np.float32) for image in images])
        flat = pixels.reshape(len(images), -1) + 1
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def arm(accidents: Accidents) -> None:
    """Put the moments, and the clock, into this process."""
    tables.datetime = accidents.clock()  # type: ignore[misc]
    for name, step in list(STEPS.items()):
        STEPS[name] = accidents.wrap_step(name, step)
    for owner, name in (
        (LabelStudio, "import_predictions"),
        (LabelStudio, "set_model_version"),
        (LabelStudio, "delete_predictions"),
        (EmbeddingStore, "append"),
        (os, "fsync"),
    ):
        setattr(owner, name, accidents.wrap(name, getattr(owner, name)))
    embedders.load_embedder = lambda *_: Pixels()
    publishing.IMPORT_CHUNK = IMPORT_CHUNK
    events.LULL = 0.0  # so that each round deletes what the one before published
    publishing.LAST_REQUESTS = LAST_REQUESTS
    rounds.FIRST_WAIT, rounds.LONGEST_WAIT = FIRST_WAIT, LONGEST_WAIT
    leases.lease.__wrapped__.__defaults__ = (LEASE_SECONDS,)  # type: ignore[attr-defined]
    LabelStudio.__init__.__defaults__ = (PATIENCE,)
    Scheduler.periodic_task_seconds = RECONCILE_SECONDS


def main() -> None:
    """Live, and live again after each SIGKILL."""
    faults = Faults(Path(sys.argv[1]))
    while True:
        child = os.fork()
        if child == 0:
            arm(Accidents(faults))
            faults.note(f"{os.getpid()} starts")
            cli.worker()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
