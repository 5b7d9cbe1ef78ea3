"""The rounds of a project, newest first, as the page shows them."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import defer

from backend.deployment import Deployment
from backend.store.tables import Round, RoundState

MOST = 100  # rounds that are listed


def history(deployment: Deployment, project_id: int) -> Sequence[Round]:
    """The last rounds, newest first; without their logs, which are long."""
    query = select(Round).where(Round.project_id == project_id).order_by(Round.number.desc()).limit(MOST)
    with deployment.database.read() as session:
        return session.scalars(query.options(defer(Round.log))).all()


def log_of(deployment: Deployment, project_id: int, number: int) -> tuple[str, bool]:
    """The log of one round, empty where there is none, and whether more of it is to come."""
    query = select(Round.log, Round.state).where(Round.project_id == project_id, Round.number == number)
    with deployment.database.read() as session:
        found = session.execute(query).first()
    return (found.log or "", found.state == RoundState.RUNNING) if found else ("", False)
