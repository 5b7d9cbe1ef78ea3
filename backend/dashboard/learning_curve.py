"""The learning curve of a project: the score on the audit tasks against the number of labels, round by round."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from backend.deployment import Deployment
from backend.loop.rounds import rounds_of
from backend.store.tables import Round


@dataclass(frozen=True)
class Point:
    """What one round measured: the score in [0, 1], its 95 % interval, and on how many tasks."""

    round: int
    labels: int
    score: float
    low: float
    high: float
    tasks: int


@dataclass
class LearningCurve:
    """Of one control. random_order: what random order is estimated to have reached, see loop/random_order."""

    control: str
    metric: str
    points: list[Point] = field(default_factory=list)
    random_order: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Numbers and strings only."""
        return asdict(self)


def learning_curves(deployment: Deployment, project_id: int) -> list[LearningCurve]:
    """A curve for each control that was ever measured, as of the rounds that were published."""
    return _curves(rounds_of(deployment, project_id, published=True))


def _curves(rounds: Sequence[Round]) -> list[LearningCurve]:
    curves: dict[str, LearningCurve] = {}
    for one in rounds:
        for name, facts in one.facts.get("controls", {}).items():
            if (measured := facts.get("measured")) is None:
                continue
            curve = curves.setdefault(name, LearningCurve(name, measured["metric"]))
            low, high = measured["interval"]
            labels = one.facts.get("labels", 0)
            curve.points.append(Point(one.number, labels, measured["score"], low, high, measured["total"]))
            curve.random_order = facts.get("random_order") or curve.random_order
    return list(curves.values())
