"""The deployment that a command works with.

What takes seconds to import is imported by the command that needs it: neither `--help` nor shell completion waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from backend.deployment import Deployment
    from backend.store.tables import Project

QUICK = 5.0  # seconds that Label Studio may take where a person waits for the answer
ProjectOption = Annotated[int, typer.Option("--project", help="Number of the project, as in its URL.")]
OnlyProjectOption = Annotated[int | None, typer.Option("--project", help="Only this project.")]


@contextmanager
def deployed(patience: float = 60) -> Iterator[Deployment]:
    """The deployment, brought up to date; failures that a person can mend end as a sentence and exit code 1."""
    from backend.deployment import Deployment
    from backend.failures import failures
    from backend.settings import Settings

    with failures():
        deployment = Deployment(Settings(), patience)
        deployment.prepare()
        yield deployment


def connected_project(deployment: Deployment, project_id: int) -> Project:
    """The project's row; ends with exit code 1 where it never was connected."""
    from backend.failures import fail
    from backend.store.tables import Project

    with deployment.database.read() as session:
        project = session.get(Project, project_id)
    if project is None:
        fail(
            f"Project {project_id} is not connected here. `active-learning connect --project {project_id}` "
            "connects it; `active-learning status` lists those that are."
        )
    return project


def connected_projects(deployment: Deployment, only: int | None) -> list[Project]:
    """The one that was asked for, or all."""
    from sqlalchemy import select

    from backend.failures import fail
    from backend.store.tables import Project

    if only is not None:
        return [connected_project(deployment, only)]
    with deployment.database.read() as session:
        projects = list(session.scalars(select(Project).order_by(Project.id)))
    if not projects:
        fail("No project is connected yet. Run `active-learning connect --project NUMBER`.")
    return projects
