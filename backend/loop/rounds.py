"""The rounds of a project, as the store knows them."""

import secrets
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from backend.deployment import Deployment
from backend.store.artifacts import models
from backend.store.tables import Project, Round, RoundState

LEARNER_OF = "learner_of"  # the fact of a round that names the version whose learners it has taken over
CLEANED = "cleaned"  # the fact of a round whether no earlier round left anything in Label Studio
FAILED_AFTER = "failed_after"  # the fact of a round that failed: id of the last event by then


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


def seed_of(current: Round) -> int:
    """The seed of what a round draws. The same labels give the same: a preview is what a round then publishes."""
    return int(current.facts.get("labels", 0))


def start_round(
    deployment: Deployment, project_id: int, reason: str, first_step: str, learner_of: str | None = None
) -> Round:
    """Note a new round; its number is the next one of the project.

    learner_of: version of an earlier round whose learners are taken; None: the round trains its own.
    """
    with deployment.database.write() as session:
        numbers = select(Round.number).where(Round.project_id == project_id)
        last = session.scalar(numbers.order_by(Round.id.desc()).limit(1))
        number = 0 if last is None else last + 1
        # The suffix keeps rounds apart from those of an earlier deployment on the same project.
        version = f"round-{number}-{secrets.token_hex(3)}"
        started = Round(
            project_id=project_id,
            number=number,
            version=version,
            reason=reason,
            step=first_step,
            facts={} if learner_of is None else {LEARNER_OF: learner_of},
        )
        session.add(started)
        session.flush()
        return started


def note_facts(deployment: Deployment, round_id: int, **facts: Any) -> None:
    """Add to what is known about a round."""
    with deployment.database.write() as session:
        row = session.get_one(Round, round_id)
        row.facts = {**row.facts, **facts}


def round_of_version(deployment: Deployment, project_id: int, version: str) -> Round | None:
    """The round that made a model version."""
    with deployment.database.read() as session:
        return session.scalar(select(Round).where(Round.project_id == project_id, Round.version == version))


def rounds_with_models(deployment: Deployment, project_id: int) -> Sequence[Round]:
    """The rounds that were published, newest first, and whose learners are still kept."""
    kept = deployment.artifacts.names(models(project_id))
    with deployment.database.read() as session:
        return session.scalars(
            select(Round)
            .where(
                Round.project_id == project_id,
                Round.version.in_(kept),
                Round.trained,
                Round.published_at.is_not(None),
            )
            .order_by(Round.number.desc())
        ).all()
