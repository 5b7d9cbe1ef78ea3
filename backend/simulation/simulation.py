"""From what is asked for to the results: what each strategy would have saved on a dataset whose labels are known."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from backend.learners.kinds import CommitteeKind, DetectorKind
from backend.loop.pool import FROM_A_LEARNER, check_available
from backend.settings import LoopSettings
from backend.simulation.dataset import Dataset
from backend.simulation.datasets import read_dataset
from backend.simulation.embeddings import Embeddings, embed
from backend.simulation.experiment import Experiment, Results, Source, run
from backend.simulation.hard_cases import HardCases
from backend.simulation.outcome import Facts, outcome
from backend.simulation.replay import Protocol
from backend.simulation.report import write_results
from backend.simulation.run_files import check_same, claimed
from backend.simulation.scenario import Scenario, make_scenario, without
from backend.simulation.table import print_table
from backend.simulation.trial import try_out
from backend.targets import VisionTask
from strategies import strategy as parse_strategy
from strategies.stopping import criterion


@dataclass(frozen=True)
class Request:
    """What is asked for on the command line.

    Raises ValueError, of which InvalidSpec is one, for what cannot be done.
    """

    source: str
    task: VisionTask
    strategies: tuple[str, ...]
    batch: int
    budget: int
    seeds: int
    out: Path
    cold_start: str
    embedding: str
    stopping: tuple[str, ...]
    hard_cases: HardCases
    learner: CommitteeKind
    members: int
    detector: DetectorKind
    backbone: str
    limit: int | None
    command: str

    def __post_init__(self) -> None:
        for spec in self.strategies:
            check_available(parse_strategy(spec), self.task)
        cold_start = parse_strategy(self.cold_start)
        check_available(cold_start, self.task)
        if cold_start.needs & FROM_A_LEARNER:
            raise ValueError(
                f"cold-start is {self.cold_start}, which needs a learner; it has to do without, as random or typiclust."
            )
        for spec in self.stopping:
            criterion(spec)
        if not 1 <= self.batch <= self.budget:
            raise ValueError(
                f"batch is {self.batch} and budget {self.budget}; a batch is of 1 label or more."
            )


def run_simulation(request: Request, console: Console) -> None:
    """Run what is missing, write the results and print the table.

    Raises ValueError, with a sentence for a person, for what cannot be done.
    """
    dataset = read_dataset(request.source, request.limit, request.task)
    settings = LoopSettings()
    protocol = Protocol(
        request.task,
        dataset.classes,
        dataset.multi_label and request.task == "classification",
        request.batch,
        request.budget,
        settings.audit_share,
        request.learner,
        request.members,
        request.detector,
        request.backbone,
    )
    for spec in (*request.strategies, request.cold_start):
        try_out(spec, dataset, protocol)
    scenarios = [
        make_scenario(dataset, request.hard_cases, settings.audit_share, seed)
        for seed in range(request.seeds)
    ]
    with claimed(request.out):
        check_same(request.out, _description(request, dataset))
        embeddings = _embedded(request, dataset, scenarios, console)
        gone = frozenset(embeddings.broken)
        readable = tuple(without(scenario, gone) for scenario in scenarios)
        experiment = Experiment(
            request.out,
            readable,
            embeddings,
            protocol,
            request.strategies,
            request.cold_start,
            Source(request.source, request.limit),
        )
        with _bar(console, "Labeling, training, measuring") as update:
            results = _run(experiment, update)
        facts = _facts(request, dataset, readable, embeddings, protocol)
        found = outcome(results, request.stopping, facts)
        write_results(found, request.out)
        print_table(console, found, request.out)


def _description(request: Request, dataset: Dataset) -> dict[str, object]:
    """What must stay the same for runs to be comparable. Strategies, seeds and criteria may be added."""
    return {
        "dataset": dataset.fingerprint,
        "task": request.task,
        "batch": request.batch,
        "budget": request.budget,
        "cold-start": request.cold_start,
        "embedding": request.embedding,
        "learner": request.learner,
        "members": request.members,
        **({"detector": request.detector} if request.task == "detection" else {}),
        **({"backbone": request.backbone} if request.task in ("detection", "segmentation") else {}),
        "limit": request.limit,
        **{name.replace("_", "-"): value for name, value in vars(request.hard_cases).items()},
    }


def _embedded(
    request: Request, dataset: Dataset, scenarios: Sequence[Scenario], console: Console
) -> Embeddings:
    parts = [part for scenario in scenarios for part in (scenario.candidates, scenario.audit, scenario.test)]
    with _bar(console, "Embedding") as update:
        return embed(dataset, parts, request.embedding, request.out, update)


def _run(experiment: Experiment, update: Callable[[int, int], None]) -> Results:
    done = 0

    def on_step() -> None:
        nonlocal done
        done += 1
        update(done, experiment.steps)

    update(0, experiment.steps)
    return run(experiment, on_step)


@contextmanager
def _bar(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar with the time left; to be told how much is done, and of how much."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, speed_estimate_period=300) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _facts(
    request: Request,
    dataset: Dataset,
    scenarios: Sequence[Scenario],
    embeddings: Embeddings,
    protocol: Protocol,
) -> Facts:
    targets = np.concatenate([scenarios[0].candidates.targets, scenarios[0].audit.targets])
    broken = (*dataset.broken, *embeddings.broken.values())
    return Facts(
        dataset=dataset.name,
        images=len(dataset),
        classes={
            name: int(count) for name, count in zip(dataset.classes, (targets > 0.5).sum(axis=0), strict=True)
        },
        multi_label=dataset.multi_label,
        metric=protocol.metric,
        pool=scenarios[0].pool_size,
        test=len(scenarios[0].test),
        own_test=dataset.test is not None,
        embedder=embeddings.embedder,
        dimensions=embeddings.dimensions,
        broken=broken,
        hard_cases={
            name.replace("_", "-"): value
            for name, value in vars(request.hard_cases).items()
            if value != getattr(HardCases(), name)
        },
        batch=request.batch,
        budget=protocol.labels_after(protocol.rounds(scenarios[0]), scenarios[0]),
        seeds=request.seeds,
        learner=protocol.learner_in_words,
        audit_share=protocol.audit_share,
        cold_start=request.cold_start,
        command=request.command,
    )
