"""The rounds of a project, as the store knows them."""

import secrets

from sqlalchemy import select

from backend.deployment import Deployment
from backend.store.tables import Project, Round, RoundState


def latest_round(deployment: Deployment, project_id: int) -> Round | None:
    """The newest round of a project, whatever became of it."""
    with deployment.database.read() as session:
        return session.scalar(
            select(Round).where(Round.project_id == project_id).order_by(Round.id.desc()).limit(1)
        )


def served_round(deployment: Deployment, project_id: int) -> Round | None:
    """The round whose queue Label Studio serves."""
    with deployment.database.read() as session:
        project = session.get(Project, project_id)
        return session.get(Round, project.published_round or 0) if project else None


def unfinished_round(deployment: Deployment, project_id: int) -> Round | None:
    """The round that is under way, waits, or was left behind by a killed worker."""
    latest = latest_round(deployment, project_id)
    return latest if latest and latest.state in (RoundState.RUNNING, RoundState.WAITING) else None


def start_round(deployment: Deployment, project_id: int, reason: str, first_step: str) -> Round:
    """Note a new round; its number is the next one of the project."""
    with deployment.database.write() as session:
        numbers = select(Round.number).where(Round.project_id == project_id)
        last = session.scalar(numbers.order_by(Round.id.desc()).limit(1))
        number = 0 if last is None else last + 1
        # The suffix keeps rounds apart from those of an earlier deployment on the same project.
        version = f"round-{number}-{secrets.token_hex(3)}"
        started = Round(project_id=project_id, number=number, version=version, reason=reason, step=first_step)
        session.add(started)
        session.flush()
        return started
