"""Whether 20 annotators at once on a project of 100,000 tasks get the best tasks, each another, and without delay.

    PYTHONPATH=. .venv/bin/python benchmarks/annotators.py [--tasks 100000] [--annotators 20] [--labels 200]
                                                 [--pace 10] [--turns 3]

Starts what docker-compose.yml runs (see stack.py). Each annotator is a user of their own who asks Label Studio's API
for the next task, takes a person's time, and submits. First they label without our backend, so many tasks with Label
Studio's default sampling, and so many with its uncertainty sampling (at random, since there are no predictions). Then
they take turns: so many without us, with uncertainty sampling in the order of predictions that were imported by hand,
and so many with our backend connected and rounds running. What a machine gives changes from minute to minute, and turns
share that out. Webhooks under load are measured by load.py. At 2 seconds a label they would keep Label Studio's one
process busy all the time, and wait for one another.

The tasks share 300 image files. Those are embedded by the product's embedder, and each task's embedding is written to
the store directly, with a little noise: embedding 100,000 images would take an hour, and is not what is measured here.

Ends with exit code 1 unless, with our backend connected,
- every task that was given came from the ranking: it carried the prediction of a round, or was in the queue that was
  replaced while the request ran;
- in priority order. Label Studio passes over a task that is locked, which it is from being given until it is submitted.
  So when a task is given, every task of the published window that is ranked before it must have been given before, or
  have been asked for while the request ran. A request during which the queue was flipped may have been answered from
  the queue before. (It draws at random only where a project has members of its own, which the open-source edition
  never gives it.);
- no task was given to two annotators;
- the median of GET next is at most 1.1 times, and the 99th percentile at most 1.5 times, that of Label Studio itself in
  the order of predictions. Any such order costs: Label Studio looks at the tasks from the first on, with some queries
  for each, until one is not locked, and all that the others are labeling come first.
"""

import argparse
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import httpx
import numpy as np
from loop import draw  # beside this file, as the next one
from rich.console import Console
from rich.table import Table
from sqlalchemy import select, text, update
from stack import KEPT, keep, make_project, running_stack, was_in_the_queue_before

from backend.demo.annotator import Annotator
from backend.loop.advancing import project_settings
from backend.loop.connection import disconnect
from backend.loop.embedders import embedder_folder, embedder_for
from backend.loop.rounds import served_round
from backend.loop.sync import sync
from backend.store.tables import Round, Task
from tests.end_to_end.running_loop import RunningLoop, wait_for

FILES = 300
NOISE = 0.01
EMBEDDED_AT_ONCE = 50
PATIENCE = 1_800.0  # seconds for the first round
SLOWER = {50: 1.1, 99: 1.5}  # how many times as slow a percentile of GET next may be with us
SAMPLINGS = ("Sequential sampling", "Uncertainty sampling")  # the first is the default
BY_HAND = "by hand"  # the version of predictions that are not ours
ORDERED, OURS = "without us, in the order of predictions", "with us"

console = Console(highlight=False, width=120)


def main() -> None:
    """Run it and print what was seen."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--annotators", type=int, default=20)
    parser.add_argument("--labels", type=int, default=200, help="of each time")
    parser.add_argument("--pace", type=float, default=10, help="seconds for a label, on average")
    parser.add_argument("--turns", type=int, default=3, help="how often both take their turn")
    options = parser.parse_args()
    began = time.monotonic()
    with running_stack() as (loop, images):
        digits = draw(images, FILES)
        names = list(digits)
        project_id = make_project(loop, images, [names[i % FILES] for i in range(options.tasks)])
        keys = [
            loop.label_studio.add_user(f"annotator-{i}@example.com", f"Secret-{i}-of-many")
            for i in range(options.annotators)
        ]
        team = Team(loop, project_id, keys, digits, options.pace)
        keep(loop.deployment.database, "queue")
        with connected(loop, project_id):
            write_embeddings(loop, project_id)
        console.print(f"set up after {time.monotonic() - began:.0f} s")
        given: dict[str, list[Given]] = {}
        for sampling in SAMPLINGS:
            loop.client.set_sampling(project_id, sampling)
            given[f"without us, {sampling.lower()}"] = team.label(options.labels)
        given[ORDERED], given[OURS] = [], []
        for turn in range(options.turns):
            labeled = {one.task_id for some in given.values() for one in some}
            without, ours = in_order_by_hand(team, options.labels, labeled), with_us(team, options.labels)
            given[ORDERED] += without
            given[OURS] += ours
            times = " and ".join(f"{slower(ours, without, rank):.2f}" for rank in SLOWER)
            console.print(f"turn {turn + 1} after {time.monotonic() - began:.0f} s: {times} times without us")
        failures = judge(loop, project_id, given)
    for failure in failures:
        console.print(f"FAILED: {failure}")
    if not failures:
        console.print("Everybody got the best task that nobody else had, and nobody waited for us.")
    sys.exit(bool(failures))


@dataclass(frozen=True)
class Given:
    """A task that an annotator was given, and what it took.

    asked, answered: Unix time. version: of the newest round whose prediction it carried; None: of none.
    submitting: seconds that submitting took.
    """

    task_id: int
    annotator: int
    asked: float
    answered: float
    version: str | None
    submitting: float


@dataclass
class Team:
    """Annotators at work on one project."""

    loop: RunningLoop
    project_id: int
    keys: Sequence[str]
    digits: Mapping[str, str]
    pace: float

    def label(self, labels: int) -> list[Given]:
        """Have all label until there are so many labels more, one each more at the most; what they were given."""
        given: list[Given] = []
        errors: list[BaseException] = []

        def work(number: int, key: str) -> None:
            annotator, chance = self.loop.annotator(self.project_id, key), random.Random(number)
            time.sleep(chance.uniform(0, 1) * self.pace)  # they do not all begin at the same moment
            try:
                while len(given) < labels and not errors:
                    given.append(self._one(annotator, number, chance.uniform(0.5, 1.5) * self.pace))
            except (httpx.HTTPError, AssertionError) as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=one) for one in enumerate(self.keys)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return given

    def _one(self, annotator: Annotator, number: int, seconds: float) -> Given:
        asked = time.time()
        task = annotator.next_task()
        answered = time.time()
        assert task is not None, "nothing more was asked"
        rounds = [v for one in task.predictions if (v := one["model_version"]).startswith("round-")]
        time.sleep(seconds)
        submitted = time.time()
        truth = self.digits[task.data["image"].rpartition("/")[2]]
        annotator.choose(task.id, "digit", "image", [truth])
        version = max(rounds, key=lambda one: int(one.split("-")[1]), default=None)
        return Given(task.id, number, asked, answered, version, time.time() - submitted)


@contextmanager
def connected(loop: RunningLoop, project_id: int) -> Iterator[None]:
    """Have the server run, with the project connected; the worker is the caller's to start."""
    loop.processes.start_process("serve")
    wait_for("the server", loop.processes.answers)
    loop.connect(project_id)
    yield
    disconnect(loop.deployment, project_id)
    loop.processes.stop()


def in_order_by_hand(team: Team, labels: int, labeled: Set[int]) -> list[Given]:
    """Label so many tasks, served by uncertainty sampling in the order of predictions that are imported for it."""
    client, project_id = team.loop.client, team.project_id
    ids = sorted(client.task_ids(project_id) - labeled)[: labels + 2 * len(team.keys)]
    predictions = [
        {"task": task_id, "result": [], "score": rank / len(ids), "model_version": BY_HAND}
        for rank, task_id in enumerate(ids)
    ]
    client.set_sampling(project_id, SAMPLINGS[1])
    client.import_predictions(project_id, predictions)
    client.set_model_version(project_id, BY_HAND)
    given = team.label(labels)
    client.delete_predictions(project_id, BY_HAND)
    client.set_sampling(project_id, SAMPLINGS[0])
    return given


def with_us(team: Team, labels: int) -> list[Given]:
    """Label so many tasks with our backend connected, from the first window on."""
    with connected(team.loop, team.project_id):
        team.loop.processes.start_process("worker")
        wait_for("a round", lambda: served_round(team.loop.deployment, team.project_id), PATIENCE)
        return team.label(labels)


def write_embeddings(loop: RunningLoop, project_id: int) -> None:
    """Read the tasks into the store, and note the embedding of its file for each."""
    deployment = loop.deployment
    sync(deployment, project_id)
    settings = project_settings(deployment, project_id)
    assert settings is not None
    folder = embedder_folder(deployment, project_id)
    embedder = embedder_for(deployment, project_id, settings, folder)
    with deployment.database.read() as session:
        tasks = session.execute(select(Task.id, Task.source).where(Task.project_id == project_id)).all()
    task_of = {source: task_id for task_id, source in tasks}
    images = [
        deployment.media.image(source, task_id, at_least=embedder.size) for source, task_id in task_of.items()
    ]
    vectors = np.concatenate(
        [
            embedder.embed(images[start : start + EMBEDDED_AT_ONCE])
            for start in range(0, FILES, EMBEDDED_AT_ONCE)
        ]
    )
    place = {source: position for position, source in enumerate(task_of)}
    of_tasks = vectors[[place[source] for _, source in tasks]]
    of_tasks += np.random.default_rng(0).normal(0, NOISE, of_tasks.shape).astype(np.float32)
    deployment.embeddings.append(project_id, embedder.name, [task_id for task_id, _ in tasks], of_tasks)
    with deployment.database.write() as session:
        session.execute(update(Task).where(Task.project_id == project_id).values(embedded=embedder.name))


def judge(loop: RunningLoop, project_id: int, given: Mapping[str, Sequence[Given]]) -> list[str]:
    """Print what was seen; returns what should not have been."""
    table = Table(title="What annotators saw")
    for heading in (
        "",
        "tasks",
        "given twice",
        "next p50 ms",
        "next p99 ms",
        "submit p50 ms",
        "submit p99 ms",
    ):
        table.add_column(heading, justify="right" if heading else "left")
    for name, some in given.items():
        waits, submits = (
            [1_000 * (one.answered - one.asked) for one in some],
            [1_000 * one.submitting for one in some],
        )
        figures = [f"{np.percentile(seconds, rank):.0f}" for seconds in (waits, submits) for rank in (50, 99)]
        table.add_row(name, str(len(some)), str(len(given_twice(some))), *figures)
    console.print(table)
    failures, ours = [], given[OURS]
    database = loop.deployment.database
    if unranked := [
        one.task_id
        for one in ours
        if one.version is None
        and not was_in_the_queue_before(database, project_id, one.task_id, one.asked, one.answered)
    ]:
        failures.append(f"{len(unranked)} tasks came without a round's prediction: {unranked[:5]}")
    passed = passed_over(loop, project_id, ours)
    console.print(
        f"{sum(map(bool, passed))} of {len(ours)} tasks were given while a better one waited; rounds: "
        f"{len({one.version for one in ours})}"
    )
    if any(passed):
        failures.append(f"tasks were given out of order, {max(passed)} places at the most")
    if twice := given_twice(ours):
        failures.append(f"{len(twice)} tasks were given to two annotators: {twice[:5]}")
    for rank, factor in SLOWER.items():
        ratio = slower(ours, given[ORDERED], rank)
        console.print(f"GET next, percentile {rank}: {ratio:.2f} times without us (goal: {factor})")
        if ratio > factor:
            failures.append(f"percentile {rank} of GET next is {ratio:.2f} times that without us")
    return failures


def slower(given: Sequence[Given], others: Sequence[Given], rank: float) -> float:
    """How many times as long as the others these waited for their next tasks, at this percentile."""
    ours, theirs = (
        np.percentile([one.answered - one.asked for one in some], rank) for some in (given, others)
    )
    return float(ours / theirs)


def given_twice(given: Sequence[Given]) -> list[int]:
    """The tasks that were given to more than one annotator."""
    annotators = Counter(task_id for task_id, _ in {(one.task_id, one.annotator) for one in given})
    return sorted(task_id for task_id, count in annotators.items() if count > 1)


def passed_over(loop: RunningLoop, project_id: int, given: Sequence[Given]) -> list[int]:
    """For each task with a round's prediction: how many better ones nobody had asked for by the time of the answer."""
    first_asked: dict[int, float] = {}
    for one in given:
        first_asked[one.task_id] = min(one.asked, first_asked.get(one.task_id, one.asked))
    with loop.deployment.database.read() as session:
        rounds = session.scalars(
            select(Round).where(Round.project_id == project_id, Round.published_at.is_not(None))
        ).all()
        kept = session.execute(
            text(f"SELECT DISTINCT round_id, rank, task_id FROM {KEPT}queue WHERE published")
        )
        queues: dict[int, dict[int, int]] = {}
        for round_id, rank, task_id in kept:
            queues.setdefault(round_id, {})[task_id] = rank
    published = sorted(rounds, key=lambda one: one.id)
    before = {later.id: earlier for earlier, later in pairwise(published)}
    by_version = {one.version: one for one in published}

    def better(one: Given, queue: Mapping[int, int]) -> int:
        rank = queue.get(one.task_id, len(queue))
        ahead = [task_id for task_id, other in queue.items() if other < rank]
        return sum(first_asked.get(task_id, np.inf) > one.answered for task_id in ahead)

    passed = []
    for one in given:
        served = by_version.get(one.version or "")
        if served is None:
            continue
        possible = [served]
        if served.published_at and served.published_at.timestamp() >= one.asked and served.id in before:
            possible.append(before[served.id])
        passed.append(min(better(one, queues.get(each.id, {})) for each in possible))
    return passed


if __name__ == "__main__":
    main()
