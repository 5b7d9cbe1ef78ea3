"""Running a round: its steps in order, each recorded, and what becomes of a step that fails."""

import logging
import time
from datetime import timedelta

from sqlalchemy import update

from backend.deployment import Deployment
from backend.engine.ray import ClusterUnavailable
from backend.labelstudio.client import (
    LabelStudioError,
    LabelStudioUnavailable,
    PredictionsRefused,
    ProjectNotFound,
    RequestRefused,
)
from backend.labelstudio.labeling_config import UnsupportedConfig
from backend.labelstudio.media import MediaUnavailable
from backend.learners.embedding import BackboneUnavailable
from backend.loop.embedding import forget_embeddings
from backend.loop.events import last_event
from backend.loop.publishing import ImportedTwice, PublishingElsewhere
from backend.loop.round_log import RoundLog, round_log
from backend.loop.round_run import RoundRun
from backend.loop.rounds import FAILED_AFTER
from backend.loop.steps import STEPS
from backend.settings import InvalidSettings
from backend.store.database import is_outage, reason_of
from backend.store.embeddings import DamagedEmbeddings
from backend.store.leases import HeldLease, LeaseLost
from backend.store.storage import StorageUnavailable
from backend.store.tables import Project, ProjectState, Round, RoundState, now

log = logging.getLogger(__name__)

FIRST_WAIT, LONGEST_WAIT = 2.0, 60.0  # seconds before a step that failed is tried again; doubles each time
LONGEST_PAUSE = 600.0  # seconds, where Label Studio itself says when to come again
FAILURES = 3  # that a round may have for reasons that waiting is not known to mend

# These go away by themselves, or when a person mends what the message says; the round waits for it.
OUTAGES = (
    LabelStudioUnavailable,
    MediaUnavailable,
    StorageUnavailable,
    ClusterUnavailable,
    PublishingElsewhere,
    ImportedTwice,
)
FOR_A_PERSON = (LabelStudioError, UnsupportedConfig, InvalidSettings, BackboneUnavailable, OSError)
OUR_FAULT = (RequestRefused, PredictionsRefused)  # although they come from Label Studio


def run_round(deployment: Deployment, round_id: int, held: HeldLease) -> None:
    """Run a round from the step that it has reached; returns when it is done, waits or has failed.

    Raises:
        LeaseLost: another worker has taken the round over.
    """
    run = RoundRun(deployment, round_id, held)
    run.note(state=RoundState.RUNNING, not_before=None)
    with round_log(run.current) as lines:
        _run_steps(run, lines)


def _run_steps(run: RoundRun, lines: RoundLog) -> None:
    names = list(STEPS)
    log.info("begins at the step %s, because %s", run.current.step, run.current.reason)
    for name in names[names.index(run.current.step) :]:
        run.held.check()
        if not _is_connected(run):
            run.note(state=RoundState.FAILED, error="The project was disconnected.", finished_at=now())
            return
        started = time.monotonic()
        try:
            STEPS[name](run)
        except LeaseLost:
            raise
        except Exception as error:
            _after_failure(run, name, error, lines)
            return
        run.held.check()
        seconds = {**run.current.seconds, name: round(time.monotonic() - started, 3)}
        following = names[names.index(name) + 1 :]
        log.info("%s took %.2f s", name, seconds[name])
        step = following[0] if following else name
        run.note(seconds=seconds, step=step, attempts=0, error=None, log=lines.text)
    run.note(state=RoundState.DONE, finished_at=now())
    _set_problem(run, None)


def _after_failure(run: RoundRun, step: str, error: Exception, lines: RoundLog) -> None:
    """Wait and try again, or give up; the queue that is served stays as it is."""
    run.held.check()  # else this is about a round that another worker has gone on with
    current = run.current
    attempts, failures = current.attempts + 1, int(current.facts.get("failures", 0))
    message = _sentence(error)
    passes = isinstance(error, OUTAGES) or is_outage(error)
    if isinstance(error, ProjectNotFound):
        if run.deployment.label_studio.lacks_project(run.project_id):
            _set_problem(run, message, state=ProjectState.GONE)
            run.note(state=RoundState.FAILED, error=message, finished_at=now(), log=lines.text)
            return
        passes = True
    if isinstance(error, DamagedEmbeddings):
        forget_embeddings(run.deployment, run.project_id, error.embedder)
    if passes or (isinstance(error, FOR_A_PERSON) and not isinstance(error, OUR_FAULT)):
        log.warning("%s waits: %s", step, message)
        if not passes:
            _set_problem(run, message)
    else:
        failures += 1
        run.note_facts(failures=failures)
        log.exception("the step %s failed (%d of %d)", step, failures, FAILURES)
        if failures >= FAILURES:
            run.note_facts(**{FAILED_AFTER: last_event(run.deployment.database, run.project_id)})
            run.note(state=RoundState.FAILED, error=message, finished_at=now(), log=lines.text)
            return
    wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (max(attempts, failures) - 1))
    if isinstance(error, LabelStudioUnavailable) and error.retry_after:
        wait = min(LONGEST_PAUSE, max(wait, error.retry_after))
    run.note(
        state=RoundState.WAITING,
        error=message,
        log=lines.text,
        attempts=attempts,
        not_before=now() + timedelta(seconds=wait),
        # Reading Label Studio again, and training anew, mends most of what waiting does not. But what is
        # published already is not ranked again: it would be taken from under the annotators.
        step=step if passes or current.published_at else "sync",
    )


def _sentence(error: Exception) -> str:
    """What went wrong, for the person who reads the status."""
    if is_outage(error):
        return f"The database cannot be used: {reason_of(error)}. Check it and the disk that it is on."
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror or error}{where}. Check the disk and the permissions of MODEL_DIR."
    if isinstance(error, (*OUTAGES, *FOR_A_PERSON, DamagedEmbeddings)):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _is_connected(run: RoundRun) -> bool:
    with run.deployment.database.read() as session:
        project = session.get(Project, run.project_id)
        return project is not None and project.state == ProjectState.ACTIVE


def _set_problem(run: RoundRun, problem: str | None, state: ProjectState | None = None) -> None:
    values: dict[str, str | None] = {"problem": problem}
    if state:
        values["state"] = state
    with run.deployment.database.write() as session:
        session.execute(update(Project).where(Project.id == run.project_id).values(**values))


def pause_until_due(waiting: Round) -> float:
    """Seconds until a waiting round may go on; 0 for one that need not wait."""
    pause = (waiting.not_before - now()).total_seconds() if waiting.not_before else 0.0
    return pause if 0 < pause <= LONGEST_PAUSE else 0.0  # a longer one only says that the clock was put back
