"""Each project in a line: what its loop does, how many labels it has, how good its model is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from backend.deployment import Deployment
from backend.loop.advancing import project_settings
from backend.loop.learning import labeled_count
from backend.loop.rounds import served_round
from backend.loop.status import activity, why_idle
from backend.settings import LoopSettings
from backend.store.tables import Project


@dataclass(frozen=True)
class Listed:
    """A project as the list shows it."""

    project: Project
    sentence: str
    labels: int
    measured: Mapping[str, Mapping[str, Any]]  # of each control: metric, score, interval, total
    stop: str | None


def project_list(deployment: Deployment) -> list[Listed]:
    """All projects, by number."""
    with deployment.database.read() as session:
        projects = session.scalars(select(Project).order_by(Project.id)).all()
    return [_listed(deployment, project) for project in projects]


def _listed(deployment: Deployment, project: Project) -> Listed:
    settings = project_settings(deployment, project.id) or LoopSettings()
    served = served_round(deployment, project.id)
    facts = served.facts if served else {}
    measured = {name: of["measured"] for name, of in facts.get("controls", {}).items() if of.get("measured")}
    sentence = why_idle(project) or " ".join(activity(deployment, project, settings))
    return Listed(project, sentence, labeled_count(deployment, project.id), measured, facts.get("stop"))
