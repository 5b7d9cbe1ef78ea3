"""All runs of a simulation: each strategy with each seed, several at a time, taken up where they were stopped."""

import json
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from multiprocessing.queues import SimpleQueue
from pathlib import Path

from backend.learners.tasks import looks_at_pixels
from backend.simulation.embeddings import Embeddings
from backend.simulation.material import Material
from backend.simulation.processes import end_with_parent, left_alone_by_ctrl_c, one_thread_each
from backend.simulation.replay import Protocol, Replay, Round, full_data_score
from backend.simulation.run_files import append_round, read_rounds, run_path
from backend.simulation.scenario import Scenario
from strategies import strategy as parse_strategy

# Runs at a time, each in a process of one thread; more would mainly take memory.
MOST_PROCESSES = 8


@dataclass(frozen=True)
class Source:
    """What `read_dataset` is to read, in each process anew."""

    name: str
    limit: int | None = None


@dataclass(frozen=True)
class Experiment:
    """What is run.

    folder: where the runs are kept. scenarios: one for each seed. strategies: specs. cold_start: the spec of what
    labels for strategies that need a learner until there is one. source: of learners that look at the images.
    """

    folder: Path
    scenarios: tuple[Scenario, ...]
    embeddings: Embeddings
    protocol: Protocol
    strategies: tuple[str, ...]
    cold_start: str
    source: Source | None = None

    @property
    def steps(self) -> int:
        """Rounds of all runs, and the training on all data for each seed."""
        return sum(len(self.strategies) * self.protocol.rounds(s) + 1 for s in self.scenarios)


@dataclass(frozen=True)
class Results:
    """What came out. full_data: the score of all data, by seed. runs: the rounds, by strategy and seed."""

    full_data: dict[int, float]
    runs: dict[tuple[str, int], list[Round]]


@dataclass(frozen=True)
class _Job:
    """A run, or the training on all data where `strategy` is None."""

    scenario: Scenario
    strategy: str | None


def run(experiment: Experiment, on_step: Callable[[], None]) -> Results:
    """Do what is not done yet, and return all there is then.

    on_step: is told of every step; see `Experiment.steps`.

    Raises ValueError, naming the strategy, where one cannot rank the pool. Whatever ends it early, at most a round
    of each run under way is lost.
    """
    # By seed, so that all strategies have come about as far whenever one looks.
    jobs = [
        _Job(scenario, strategy)
        for scenario in experiment.scenarios
        for strategy in (None, *experiment.strategies)
    ]
    todo = []
    for job in jobs:
        steps, done = _progress(experiment, job)
        for _ in range(done):
            on_step()
        if done < steps:
            todo.append(job)
    if todo:
        _run_in_processes(experiment, todo, on_step)
    return Results(
        full_data={
            s.seed: json.loads(_full_data_path(experiment, s).read_text())["score"]
            for s in experiment.scenarios
        },
        runs={
            (strategy, s.seed): read_rounds(run_path(experiment.folder, strategy, s.seed))
            for strategy in experiment.strategies
            for s in experiment.scenarios
        },
    )


def _progress(experiment: Experiment, job: _Job) -> tuple[int, int]:
    """How many steps a job has, and how many of them are done."""
    if job.strategy is None:
        return 1, int(_full_data_path(experiment, job.scenario).exists())
    done = read_rounds(run_path(experiment.folder, job.strategy, job.scenario.seed))
    return experiment.protocol.rounds(job.scenario), len(done)


def _full_data_path(experiment: Experiment, scenario: Scenario) -> Path:
    return experiment.folder / "runs" / f"full-data-{scenario.seed}.json"


def _run_in_processes(experiment: Experiment, jobs: Sequence[_Job], on_step: Callable[[], None]) -> None:
    # Forked from a process that has imported everything and computed nothing: torch's threads do not survive a fork.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    steps: SimpleQueue[None] = context.SimpleQueue()
    processes = min(len(jobs), len(os.sched_getaffinity(0)), MOST_PROCESSES)
    shared = replace(experiment, scenarios=())
    executor = ProcessPoolExecutor(processes, context, _start_worker, (shared, steps))
    try:
        with one_thread_each(), left_alone_by_ctrl_c():
            running: set[Future[None]] = {executor.submit(_work, job) for job in jobs}
        while running:
            finished, running = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
            while not steps.empty():
                steps.get()
                on_step()
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        for process in context.active_children():
            process.terminate()
        raise
    executor.shutdown()


_experiment: Experiment
_material: Material
_steps: "SimpleQueue[None]"


def _start_worker(experiment: Experiment, steps: "SimpleQueue[None]") -> None:
    global _experiment, _material, _steps
    end_with_parent()
    dataset, source = None, experiment.source
    if source and looks_at_pixels(experiment.protocol):
        # Not before the fork, which what it brings along does not survive.
        from backend.simulation.datasets import read_dataset

        dataset = read_dataset(source.name, source.limit, experiment.protocol.task)
    _experiment, _steps = experiment, steps
    _material = Material(experiment.protocol, experiment.embeddings, dataset)


def _work(job: _Job) -> None:
    scenario, protocol = job.scenario, _experiment.protocol
    if job.strategy is None:
        path = _full_data_path(_experiment, scenario)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps({"score": full_data_score(scenario, _material, protocol)}))
        unfinished.replace(path)
        _steps.put(None)
        return
    path = run_path(_experiment.folder, job.strategy, scenario.seed)
    done = read_rounds(path)
    strategy, cold_start = parse_strategy(job.strategy), parse_strategy(_experiment.cold_start)
    replay = Replay(scenario, _material, protocol, strategy, cold_start, done)
    for _ in range(len(done), protocol.rounds(scenario)):
        try:
            round_ = replay.step()
        except ValueError as error:
            raise ValueError(
                f"The strategy {job.strategy} fails in round {replay.number}: {error}"
            ) from error
        append_round(path, round_)
        _steps.put(None)
