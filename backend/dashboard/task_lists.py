"""Tasks that a person should look at: likely label errors, disagreements, images that cannot be read."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, func, select

from backend.deployment import Deployment
from backend.store.tables import Round, Task

MOST = 100  # tasks that a list shows


def label_errors(served: Round | None) -> tuple[list[Mapping[str, Any]], int]:
    """Labels that the committee firmly contradicts, and how many labels were looked at; see loop/label_errors."""
    controls = served.facts.get("controls", {}) if served else {}
    found = [facts["label_errors"] for facts in controls.values() if facts.get("label_errors")]
    return [error for one in found for error in one["errors"]], sum(one["judged"] for one in found)


def disagreements(served: Round | None) -> list[int]:
    """Tasks on which the annotators do not agree."""
    return list(served.facts.get("disagreements") or [])[:MOST] if served else []


def broken_images(deployment: Deployment, project_id: int) -> tuple[Sequence[Row[int, str | None]], int]:
    """The first images that cannot be used, each with its reason, and how many there are."""
    broken = (Task.project_id == project_id) & Task.broken.is_not(None)
    with deployment.database.read() as session:
        count = session.scalar(select(func.count()).where(broken)) or 0
        found = session.execute(
            select(Task.id, Task.broken).where(broken).order_by(Task.id).limit(MOST)
        ).all()
    return found, count
