"""Whether the loop holds out: a team labels for an hour while processes are killed at random.

    PYTHONPATH=. .venv/bin/python benchmarks/soak.py [--minutes 60] [--annotators 5] [--kill-every 30]

Starts what docker-compose.yml runs (see stack.py), and has annotators label through Label Studio's API, each at a
person's pace. Every 30 seconds the server, one of its web processes, or the worker is killed (SIGKILL) and, where
nothing else does so, started again. Ends with exit code 1 unless

- every task that an annotator was given came from the ranking: it carried a round's prediction, or was in the queue
  that was replaced while the request ran;
- every annotation is in the training or the validation set of the last round;
- memory and disk are flat: what the processes and MODEL_DIR take is no more in the last third than in the third
  before, but for a tenth. Told, but not judged, below ten minutes: all that is needed is not loaded before.
"""

import argparse
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from loop import draw  # beside this file, as the next one
from rich.console import Console
from sqlalchemy import select
from stack import keep, make_project, running_stack, was_in_the_queue_before

from backend.demo.annotator import Annotator
from backend.demo.backend import BackendProcesses
from backend.demo.label_studio import LabelStudioServer
from backend.deployment import Deployment
from backend.labelstudio.connection import LabelStudioError
from backend.labelstudio.labeling_config import read_labeling_config
from backend.loop.connection import connect
from backend.loop.jobs import Jobs
from backend.loop.learning import labeled_sets
from backend.loop.rounds import latest_round, served_round
from backend.store.tables import Round, RoundState

PACE = 2.0  # seconds that an annotator takes for a label, on average
SAMPLE_EVERY = 5.0  # seconds
PATIENCE = 240.0  # seconds for the last round, and for the first
FLAT = 1.1
JUDGED_FROM = 10.0  # minutes

console = Console(highlight=False, width=120)


def main() -> None:
    """Run it and print what was seen."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--annotators", type=int, default=5)
    parser.add_argument("--kill-every", type=float, default=30, help="seconds")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with running_stack() as (loop, images):
        labels = round(options.annotators * options.minutes * 60 / PACE)
        digits = draw(images, labels + 100)  # more than they can label
        soak = Soak(loop.deployment, loop.processes, make_project(loop, images, list(digits)), digits)
        with soak.processes:
            soak.run(
                loop.label_studio, options.minutes * 60, options.annotators, options.kill_every, options.seed
            )
            failures = soak.judge(judge_growth=options.minutes >= JUDGED_FROM)
    for failure in failures:
        console.print(f"FAILED: {failure}")
    if not failures:
        console.print("No label was lost, and the queue was never empty.")
    sys.exit(bool(failures))


@dataclass
class Soak:
    """A project, those who label it, those who serve it, and what was seen."""

    deployment: Deployment
    processes: BackendProcesses
    project_id: int
    digits: dict[str, str]
    labeled: set[int] = field(default_factory=set)
    unranked: list[tuple[int, float, float]] = field(default_factory=list)
    """Tasks that came without the prediction of a round: id, and when it was asked for and given, in Unix time."""
    errors: list[str] = field(default_factory=list)
    kills: list[str] = field(default_factory=list)
    samples: list[tuple[float, float, float]] = field(default_factory=list)
    """Seconds, and megabytes of memory and of disk."""
    ended: threading.Event = field(default_factory=threading.Event)
    began: float = 0.0
    """When the team began, in Unix time."""

    def run(
        self, server: LabelStudioServer, seconds: float, annotators: int, kill_every: float, seed: int
    ) -> None:
        """Connect, have everybody label for so long, and kill."""
        keep(self.deployment.database, "queue")
        connect(self.deployment, self.project_id, backend_url=self.deployment.settings.backend_url)
        Jobs(self.deployment).nudge(self.project_id)
        wait_until(lambda: served_round(self.deployment, self.project_id) is not None)
        keys = [
            server.add_user(f"annotator-{i}@example.com", f"Secret-{i}-{seed}") for i in range(annotators)
        ]
        team = [threading.Thread(target=self._annotate, args=(server.url, key, seed)) for key in keys]
        self.began = time.time()
        for thread in team:
            thread.start()
        try:
            self._kill_now_and_then(seconds, kill_every, random.Random(seed))
        finally:
            self.ended.set()
            for thread in team:
                thread.join()

    def _annotate(self, url: str, key: str, seed: int) -> None:
        annotator, chance = Annotator(url, key, self.project_id), random.Random(f"{key}{seed}")
        while not self.ended.wait(chance.uniform(0.5, 1.5) * PACE):
            try:
                began = time.time()
                asked = annotator.next_task()
                if asked is None:
                    self._tell_error("nothing more was asked")
                    return
                if not any(shown["model_version"].startswith("round-") for shown in asked.predictions):
                    self.unranked.append((asked.id, began, time.time()))
                    self._say(f"task {asked.id} without the prediction of a round")
                truth = self.digits[asked.data["image"].rpartition("/")[2]]
                annotator.choose(asked.id, "digit", "image", [truth])
                self.labeled.add(asked.id)
            except (httpx.HTTPError, LabelStudioError) as error:
                self._tell_error(f"{type(error).__name__}: {error}")

    def _tell_error(self, what: str) -> None:
        self.errors.append(what)
        self._say(what)

    def _say(self, what: str) -> None:
        """Print at once what may turn out to be a failure, with its minute."""
        console.print(f"minute {(time.time() - self.began) / 60:.1f}: {what}")

    def _kill_now_and_then(self, seconds: float, kill_every: float, chance: random.Random) -> None:
        started = time.monotonic()
        next_kill = kill_every
        while (elapsed := time.monotonic() - started) < seconds:
            if elapsed >= next_kill:
                self._kill(chance)
                next_kill += kill_every
            self._sample(elapsed)
            time.sleep(SAMPLE_EVERY)

    def _kill(self, chance: random.Random) -> None:
        victim = chance.choice(["serve", "web process", "worker"])
        if victim == "web process":
            web_processes = self.processes.pids("serve")[1:]
            if not web_processes:
                return
            os.kill(chance.choice(web_processes), signal.SIGKILL)
        else:
            self.processes.signal(victim, signal.SIGKILL)
            self.processes.wait(victim, 10)
            self.processes.start_process(victim)
        self.kills.append(victim)

    def _sample(self, elapsed: float) -> None:
        processes = [pid for name in ("serve", "worker") for pid in self.processes.pids(name)]
        disk = sum(length for _, length in files(self.deployment.settings.model_dir))
        self.samples.append((elapsed, sum(map(memory, processes)) / 1e6, disk / 1e6))

    def judge(self, judge_growth: bool) -> list[str]:
        """Print what was seen; returns what should not have been."""
        unranked = [
            one
            for one in self.unranked
            if not was_in_the_queue_before(self.deployment.database, self.project_id, *one)
        ]
        minutes = Counter(int((asked - self.began) / 60) for _, asked, _ in unranked)
        failures = [
            f"{len(unranked)} times not by the ranking, by minute: {dict(sorted(minutes.items()))}; the first: "
            f"{unranked[:3]}"
        ] * bool(unranked)
        failures += [f"{len(self.errors)} requests of annotators failed: {self.errors[:3]}"] * bool(
            self.errors
        )
        self._last_round()
        if lost := self.labeled - self._in_a_set():
            failures.append(f"{len(lost)} labels are in no set: tasks {sorted(lost)[:5]}")
        with self.deployment.database.read() as session:
            states = list(session.scalars(select(Round.state).where(Round.project_id == self.project_id)))
        console.print(
            f"{len(self.labeled)} labels, {len(states)} rounds ({states.count(RoundState.FAILED)} failed), "
            f"kills: {', '.join(f'{self.kills.count(one)} × {one}' for one in sorted(set(self.kills)))}"
        )
        for name, values in zip(("memory", "disk"), np.array(self.samples).T[1:], strict=True):
            _, middle, last = np.array_split(values, 3)
            minutes = np.array(self.samples)[-len(last) :, 0] / 60
            slope = np.polyfit(minutes, last, 1)[0]
            console.print(
                f"{name}: {np.median(middle):.0f} MB in the second third, {np.median(last):.0f} MB in the last, "
                f"where it grew by {slope:.2f} MB a minute"
            )
            if name == "disk":
                console.print(f"disk, by folder: {self._by_folder()}")
            if judge_growth and np.median(last) > FLAT * np.median(middle):
                failures.append(f"the {name} grew")
        return failures

    def _by_folder(self) -> str:
        sizes: Counter[str] = Counter()
        for path, length in files(self.deployment.settings.model_dir):
            sizes[path.relative_to(self.deployment.settings.model_dir).parts[0]] += length
        return ", ".join(f"{name} {total / 1e6:.1f} MB" for name, total in sizes.most_common())

    def _last_round(self) -> None:
        """Have a last round, of all labels."""
        before = latest_round(self.deployment, self.project_id)
        wait_until(self.processes.answers)
        client = self.deployment.label_studio
        url = f"{client.url}/api/ml/{client.backends(self.project_id)[0].id}/train"
        httpx.post(url, headers={"Authorization": client.authorization()}, timeout=60).raise_for_status()

        def done() -> bool:
            latest = latest_round(self.deployment, self.project_id)
            if latest is None or before is None or latest.published_at is None:
                return False
            # It is not done for minutes: in this lull, all that was ever published is deleted.
            return latest.id > before.id and self.labeled <= self._in_a_set()

        wait_until(done)

    def _in_a_set(self) -> set[int]:
        """The tasks that the served learner was trained on, or is measured by."""
        served = served_round(self.deployment, self.project_id)
        if served is None:
            return set()
        (control,) = read_labeling_config(served.label_config).controls
        sets = labeled_sets(self.deployment, self.project_id, served.facts, control)
        return {task_id for one in sets for task_id in one.task_ids.tolist()}


def wait_until(look: Callable[[], bool]) -> None:
    """Wait for something, with patience; what did not come is judged later."""
    deadline = time.monotonic() + PATIENCE
    while not look() and time.monotonic() < deadline:
        time.sleep(0.5)


def memory(process: int) -> int:
    """Bytes that a process has in memory; 0 for one that has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def files(folder: Path) -> Iterator[tuple[Path, int]]:
    """All files in a folder and the folders in it, with their sizes in bytes; the loop may delete any meanwhile."""
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            with suppress(FileNotFoundError):
                yield path, path.stat().st_size


if __name__ == "__main__":
    main()
