"""What is due for a project: adopting it, going on with its round or starting one, its queue, cleaning up."""

import logging
from collections.abc import Callable
from typing import Any

from sqlalchemy import update

from backend.deployment import Deployment
from backend.labelstudio.client import LabelStudioError, LabelStudioUnavailable
from backend.labelstudio.labeling_config import UnsupportedConfig, read_labeling_config
from backend.loop.connection import ConnectingElsewhere, NotConnected, connect
from backend.loop.damage import DAMAGE, note_damage
from backend.loop.embedding import images_to_embed
from backend.loop.events import LULL, START_TRAINING, is_lull
from backend.loop.publishing import NotStored, clean_up, top_up
from backend.loop.round import pause_until_due, run_round
from backend.loop.rounds import CLEANED, note_facts, served_round, start_round, unfinished_round
from backend.loop.steps import STEPS
from backend.loop.triggers import REASONS, due, when_due
from backend.settings import InvalidSettings, LoopSettings
from backend.store.leases import HeldLease, lease
from backend.store.storage import StorageUnavailable
from backend.store.tables import Project, ProjectState, now

log = logging.getLogger(__name__)

TRY_AGAIN_SECONDS = 5.0


def advance(
    deployment: Deployment,
    project_id: int,
    nudge: Callable[[int, float], None],
    embed: Callable[[int], Any],
) -> None:
    """Do what is due for a project: adopt it, go on with its round or start one, top its queue up, clean up."""
    with deployment.database.read() as session:
        project = session.get(Project, project_id)
    if project is None:
        return
    if project.state == ProjectState.CONNECTING and not _adopt(deployment, project, nudge):
        return
    settings = project_settings(deployment, project_id)
    if settings is None:
        return
    with lease(deployment.database, f"round:{project_id}") as held:
        if held is not None:
            _run_due_round(deployment, project_id, settings, held, nudge)
    _top_up(deployment, project_id, nudge)
    _clean_up(deployment, project_id, nudge)
    if images_to_embed(deployment, project_id):
        embed(project_id)


def project_settings(deployment: Deployment, project_id: int) -> LoopSettings | None:
    """Settings of a project whose loop runs; None where it does not, or cannot: `problem` then says why."""
    with deployment.database.read() as session:
        project = session.get(Project, project_id)
    if project is None or project.state != ProjectState.ACTIVE:
        return None
    if not project.label_config:  # the first sync reads it
        return LoopSettings.resolve({}, project.extra_params)
    try:
        return LoopSettings.resolve(read_labeling_config(project.label_config).settings, project.extra_params)
    except (UnsupportedConfig, InvalidSettings) as error:
        with deployment.database.write() as session:
            session.execute(update(Project).where(Project.id == project_id).values(problem=str(error)))
        # The config that we hold may be an old one: a round reads the present one, and waits if it is no better.
        return LoopSettings()


def _adopt(deployment: Deployment, project: Project, nudge: Callable[[int, float], None]) -> bool:
    """Take over a project that was connected by hand, in Label Studio's user interface."""
    try:
        connect(deployment, project.id, backend_url=project.backend_url, add_backend=False)
    except NotConnected as error:
        log.info("%s", error)
        return False
    except ConnectingElsewhere:
        nudge(project.id, TRY_AGAIN_SECONDS)
        return False
    except (LabelStudioError, UnsupportedConfig, InvalidSettings) as error:
        log.warning("the project is not connected yet: %s", error)
        with deployment.database.write() as session:
            session.execute(update(Project).where(Project.id == project.id).values(problem=str(error)))
        nudge(project.id, TRY_AGAIN_SECONDS)
        return False
    return True


def _run_due_round(
    deployment: Deployment,
    project_id: int,
    settings: LoopSettings,
    held: HeldLease,
    nudge: Callable[[int, float], None],
) -> None:
    """Go on with the unfinished round, or start one that is due; while it ran, another may have come due."""
    unfinished = unfinished_round(deployment, project_id)
    if unfinished is not None and (pause := pause_until_due(unfinished)):
        nudge(project_id, pause)
        return
    if unfinished is None:
        with deployment.database.read() as session:
            project = session.get_one(Project, project_id)
        reason = due(deployment, project, settings)
        if reason is None:
            if later := when_due(deployment, project, settings):
                nudge(project_id, max(0.1, (later - now()).total_seconds()))
            return
        # While it is paused, the queue is ranked anew where it must be, by the model that there is.
        keep = project.paused and reason != REASONS[START_TRAINING]
        served = served_round(deployment, project_id) if keep else None
        learner_of = served.version if served is not None and served.trained else None
        unfinished = start_round(deployment, project_id, reason, next(iter(STEPS)), learner_of)
    run_round(deployment, unfinished.id, held)
    nudge(project_id, settings.debounce_seconds)


def _clean_up(deployment: Deployment, project_id: int, nudge: Callable[[int, float], None]) -> None:
    """Delete what the last round left because people labeled; rounds go on meanwhile."""
    served = served_round(deployment, project_id)
    if served is None or served.facts.get(CLEANED, True):
        return
    # Before Label Studio is asked: this comes with every nudge.
    if not is_lull(deployment.database, project_id):
        nudge(project_id, LULL)
        return
    try:
        with lease(deployment.database, f"clean:{project_id}") as held:
            if held is None:
                return
            if clean_up(deployment, served):
                note_facts(deployment, served.id, **{CLEANED: True})
            else:
                nudge(project_id, LULL)
    except LabelStudioError as error:
        log.warning("deleting the predictions of earlier rounds waits: %s", error)
        nudge(project_id, LULL)


def _top_up(deployment: Deployment, project_id: int, nudge: Callable[[int, float], None]) -> None:
    try:
        top_up(deployment, project_id)
    except (LabelStudioError, NotStored, StorageUnavailable) as error:
        log.warning("topping up the queue waits: %s", error)
        asked = error.retry_after if isinstance(error, LabelStudioUnavailable) else None
        nudge(project_id, max(TRY_AGAIN_SECONDS, asked or 0))
    except DAMAGE as error:
        log.warning("the queue cannot be topped up: %s", error)
        if note_damage(deployment, project_id):
            nudge(project_id, 0)
