"""All that a simulation found out, and its machine-readable form."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from backend.simulation.experiment import Results
from backend.simulation.summary import (
    Curve,
    StoppingPoint,
    StrategySummary,
    curves,
    stopping_points,
    summarise,
)


@dataclass(frozen=True)
class Facts:
    """What was simulated.

    classes: how often each is in the pool, as it is labeled. metric: what the scores are of.
    pool, test: images, with the first seed. own_test: whether the test split came with the data.
    broken: why images were left out. hard_cases: those asked for. budget: labels at the end of the runs.
    command: repeats the simulation.
    """

    dataset: str
    images: int
    classes: dict[str, int]
    multi_label: bool
    metric: str
    pool: int
    test: int
    own_test: bool
    embedder: str
    dimensions: int
    broken: tuple[str, ...]
    hard_cases: dict[str, float]
    batch: int
    budget: int
    seeds: int
    learner: str
    audit_share: float
    cold_start: str
    command: str


@dataclass(frozen=True)
class Outcome:
    """What came out. full_data: the score of all data, by seed."""

    facts: Facts
    full_data: dict[int, float]
    curves: list[Curve]
    summaries: list[StrategySummary]
    stopping: list[StoppingPoint]

    @property
    def full_data_score(self) -> float:
        """Mean over the seeds."""
        return sum(self.full_data.values()) / len(self.full_data)


def outcome(results: Results, criteria: Sequence[str], facts: Facts) -> Outcome:
    """Work out what the runs come to."""
    found = curves(results)
    return Outcome(
        facts,
        results.full_data,
        found,
        summarise(found, results.full_data),
        stopping_points(results, criteria, results.full_data),
    )


def write_json(found: Outcome, path: Path) -> None:
    """Write what was found as JSON."""
    content: dict[str, Any] = {
        "facts": asdict(found.facts),
        "full_data": found.full_data,
        "summary": [asdict(summary) for summary in found.summaries],
        "stopping": [asdict(point) for point in found.stopping],
        "runs": [asdict(curve) for curve in found.curves],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
