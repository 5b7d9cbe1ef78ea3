"""Running a round: its steps in order, each recorded, and what becomes of a step that fails."""

import logging
import time
from datetime import timedelta

from sqlalchemy import update

from backend.deployment import Deployment
from backend.labelstudio.client import AccessDenied, LabelStudioUnavailable, ProjectNotFound
from backend.labelstudio.labeling_config import UnsupportedConfig
from backend.labelstudio.media import MediaUnavailable
from backend.learners.embedding import BackboneUnavailable
from backend.loop.publishing import PublishingElsewhere
from backend.loop.steps import STEPS, RoundRun
from backend.settings import InvalidSettings
from backend.store.leases import HeldLease, LeaseLost
from backend.store.tables import Project, ProjectState, Round, RoundState, now

log = logging.getLogger(__name__)

FIRST_WAIT, LONGEST_WAIT = 2.0, 60.0  # seconds before a step that failed is tried again; doubles each time
ATTEMPTS = 3  # of a step that fails for a reason that waiting is not known to mend

# These go away by themselves, or when a person mends what the message says; the round waits for it.
OUTAGES = (LabelStudioUnavailable, MediaUnavailable, PublishingElsewhere)
FOR_A_PERSON = (AccessDenied, UnsupportedConfig, InvalidSettings, BackboneUnavailable)


def run_round(deployment: Deployment, round_id: int, held: HeldLease) -> None:
    """Run a round from the step that it has reached; returns when it is done, waits or has failed.

    Raises:
        LeaseLost: another worker has taken the round over.
    """
    run = RoundRun(deployment, round_id, held)
    run.note(state=RoundState.RUNNING, not_before=None)
    names = list(STEPS)
    for name in names[names.index(run.current.step) :]:
        held.check()
        started = time.monotonic()
        try:
            STEPS[name](run)
        except LeaseLost:
            raise
        except Exception as error:
            _after_failure(run, name, error)
            return
        current = run.current
        seconds = {**current.seconds, name: round(time.monotonic() - started, 3)}
        following = names[names.index(name) + 1 :]
        run.note(seconds=seconds, step=following[0] if following else name, attempts=0, error=None)
        log.info("project %d, round %d: %s took %.2f s", run.project_id, current.number, name, seconds[name])
    run.note(state=RoundState.DONE, finished_at=now())
    _set_problem(run, None)


def _after_failure(run: RoundRun, step: str, error: Exception) -> None:
    """Wait and try again, or give up; the queue that is served stays as it is."""
    attempts = run.current.attempts + 1
    message = str(error) or type(error).__name__
    if isinstance(error, ProjectNotFound):
        _set_problem(run, message, state=ProjectState.GONE)
        run.note(state=RoundState.FAILED, error=message, finished_at=now())
        return
    expected = isinstance(error, OUTAGES + FOR_A_PERSON)
    if expected:
        log.warning("project %d: %s waits: %s", run.project_id, step, message)
    else:
        log.exception("project %d: step %s failed (attempt %d)", run.project_id, step, attempts)
        message = f"{type(error).__name__}: {message}"
    if isinstance(error, FOR_A_PERSON):
        _set_problem(run, message)
    if not expected and attempts >= ATTEMPTS:
        run.note(state=RoundState.FAILED, error=message, attempts=attempts, finished_at=now())
        return
    wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempts - 1))
    run.note(
        state=RoundState.WAITING,
        error=message,
        attempts=attempts,
        not_before=now() + timedelta(seconds=wait),
        # A refused prediction or a changed config is mended by reading Label Studio again.
        step="sync" if not isinstance(error, OUTAGES) else step,
    )


def _set_problem(run: RoundRun, problem: str | None, state: ProjectState | None = None) -> None:
    values: dict[str, str | None] = {"problem": problem}
    if state:
        values["state"] = state
    with run.deployment.database.write() as session:
        session.execute(update(Project).where(Project.id == run.project_id).values(**values))


def pause_until_due(waiting: Round) -> float:
    """Seconds until a waiting round may go on; 0 for one that need not wait."""
    return max(0.0, (waiting.not_before - now()).total_seconds()) if waiting.not_before else 0.0
