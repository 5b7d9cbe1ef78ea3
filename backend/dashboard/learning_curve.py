"""The learning curve of a project: the score on the audit tasks against the number of labels, round by round."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import select

from backend.deployment import Deployment
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
    query = (
        select(Round.number, Round.facts["labels"].as_integer(), Round.facts["controls"])
        .where(Round.project_id == project_id, Round.published_at.is_not(None))
        .order_by(Round.number)
    )
    curves: dict[str, LearningCurve] = {}
    with deployment.database.read() as session:
        for number, labels, controls in session.execute(query):
            for name, facts in (controls or {}).items():
                if (measured := facts.get("measured")) is None:
                    continue
                curve = curves.setdefault(name, LearningCurve(name, measured["metric"]))
                low, high = measured["interval"]
                curve.points.append(
                    Point(number, labels or 0, measured["score"], low, high, measured["total"])
                )
                if estimate := facts.get("random_order"):
                    curve.random_order = _beside(estimate, (labels or 0) / max(1, facts.get("training", 1)))
    return list(curves.values())


def _beside(estimate: Mapping[str, Any], audited: float) -> Mapping[str, Any]:
    """The estimate with audit tasks among its labels, as they are among the curve's.

    audited: all labels for each one that is trained on.
    """
    points = [{**point, "labels": round(audited * point["labels"])} for point in estimate["points"]]
    return {**estimate, "points": points}
