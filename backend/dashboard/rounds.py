"""The rounds of a project, newest first, as the page shows them."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import defer

from backend.deployment import Deployment
from backend.store.tables import Round

MOST = 100  # rounds that are listed


def history(deployment: Deployment, project_id: int, *, logs: bool = False) -> Sequence[Round]:
    """The last rounds, newest first; their logs only on request, as they are long."""
    query = select(Round).where(Round.project_id == project_id).order_by(Round.number.desc()).limit(MOST)
    options: list[Any] = [] if logs else [defer(Round.log)]
    with deployment.database.read() as session:
        return session.scalars(query.options(*options)).all()
