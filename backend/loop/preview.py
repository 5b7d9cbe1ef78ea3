"""What the queue would become under other settings: ranked by the model that is served, and not published."""

import logging
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from sqlalchemy import update

from backend.deployment import Deployment
from backend.learners.weights import DamagedWeights
from backend.loop.round_run import RoundRun
from backend.loop.rounds import served_round
from backend.settings import InvalidSettings
from backend.store.embeddings import DamagedEmbeddings
from backend.store.leases import HeldLease, lease
from backend.store.storage import StorageUnavailable
from backend.store.tables import Project, Round

log = logging.getLogger(__name__)

SHOWN = 24  # tasks of the previewed ranking


class _Previewed(RoundRun):
    """The served round, as it would rank under other extra params."""

    def __init__(
        self, deployment: Deployment, served: Round, held: HeldLease, extra_params: dict[str, Any]
    ) -> None:
        super().__init__(deployment, served.id, held)
        self._extra_params = extra_params

    @cached_property
    def project(self) -> Project:
        """The project's row with those extra params; it is not written."""
        with self.deployment.database.read() as session:
            project = session.get_one(Project, self.project_id)
            session.expunge(project)
        project.extra_params = self._extra_params
        return project

    @property
    def queue_size(self) -> int:
        """No more than is shown."""
        return SHOWN


def ask_for_preview(deployment: Deployment, project_id: int, extra_params: Mapping[str, Any]) -> None:
    """Note that somebody wants to see the queue under these extra params; a worker makes it."""
    _note(deployment, project_id, {"state": "waiting", "extra_params": dict(extra_params)})


def make_preview(deployment: Deployment, project_id: int) -> None:
    """Rank as was asked for, and note the first tasks with their reasons, or why it cannot be done."""
    with lease(deployment.database, f"preview:{project_id}") as held:
        with deployment.database.read() as session:
            project = session.get(Project, project_id)
        if held is None or project is None or not project.preview or project.preview["state"] != "waiting":
            return
        asked = project.preview
        made = {**asked, **_ranked(deployment, project_id, held, asked["extra_params"])}
        _note(deployment, project_id, made)


def _ranked(
    deployment: Deployment, project_id: int, held: HeldLease, extra_params: dict[str, Any]
) -> dict[str, Any]:
    served = served_round(deployment, project_id)
    if served is None:
        return {"state": "failed", "problem": "No round has been published yet."}
    try:
        ranking = _Previewed(deployment, served, held, extra_params).ranking
    except (
        InvalidSettings,
        ValueError,
        OSError,
        DamagedEmbeddings,
        DamagedWeights,
        StorageUnavailable,
    ) as error:
        return {"state": "failed", "problem": str(error)}
    except Exception as error:  # somebody waits for an answer
        log.exception("the preview failed")
        return {
            "state": "failed",
            "problem": f"{type(error).__name__}: {error}. The worker's log tells more.",
        }
    return {
        "state": "done",
        "tasks": [{"task": ranked.task_id, "reason": ranked.reason} for ranked in ranking[:SHOWN]],
    }


def _note(deployment: Deployment, project_id: int, preview: dict[str, Any]) -> None:
    with deployment.database.write() as session:
        session.execute(update(Project).where(Project.id == project_id).values(preview=preview))
