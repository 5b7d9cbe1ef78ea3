"""The step publish: the atomic flip of the queue that Label Studio serves, and its topping up.

Label Studio serves ascending `score` among the predictions of the project's `model_version`. A round
imports the first tasks of its queue under its own version, then sets the project's version: until then the
old queue serves. As the published window drains, more of the ranking is imported under the same version.
"""

import logging
import time
from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, Select, delete, func, select, update

from backend.deployment import Deployment
from backend.labelstudio.client import BATCHED_IMPORT, PredictionsRefused
from backend.labelstudio.labeling_config import read_labeling_config
from backend.loop.events import is_lull
from backend.loop.prediction import NOTHING, Shown, predict_stored, queue_score
from backend.settings import LoopSettings
from backend.store.database import upsert
from backend.store.leases import HeldLease, lease
from backend.store.tables import Project, ProjectState, QueueEntry, Round, Task, now

log = logging.getLogger(__name__)

IMPORT_CHUNK = 500  # what Label Studio stores in one go: all of it, or nothing
SLOW_IMPORT = 5.0  # seconds
KEPT_PREDICTIONS = 10_000  # of earlier rounds, at the most
LAST_REQUESTS = 1.0  # seconds, at least
SLOWEST_REQUEST = 5.0  # times what a request of ours takes
# By a name of its own: PostgreSQL does not see that two comparisons with a parameter are the same.
SKIPPED = (Task.skips > 0).label("skipped")


class NotStored(Exception):
    """Label Studio took the predictions but kept fewer than it was sent."""


class ImportedTwice(Exception):
    """Label Studio holds more of our predictions than we sent, or was still storing them when we gave up on it."""

    def __str__(self) -> str:
        return "Label Studio stored predictions twice, because it was slow to answer; they are imported anew."


class PublishingElsewhere(Exception):
    """Another worker is topping up the queue right now."""

    def __str__(self) -> str:
        return "another worker is publishing; it takes a moment"


def window_size(settings: LoopSettings, labels_last_round: int) -> int:
    """How many tasks to publish ahead: several times what is labeled while a round runs."""
    return max(settings.window, 4 * settings.labels_per_round, 4 * labels_last_round)


def publish(deployment: Deployment, current: Round, window: int, held: HeldLease) -> None:
    """Import the first `window` tasks of the round's queue, then make Label Studio serve them.

    held: the lease on publishing for the project.
    """
    label_studio = deployment.label_studio
    with deployment.database.read() as session:
        project = session.get_one(Project, current.project_id)
    if project.state != ProjectState.ACTIVE:
        return  # disconnected meanwhile
    # A worker that was killed right after the flip has left nothing to do but to note it.
    if label_studio.project(project.id).model_version != current.version:
        imported = _import_window(deployment, project, current, window, held)
        held.check()
        if imported:
            label_studio.set_model_version(project.id, current.version)
        log.info("publish: Label Studio serves %s, %d tasks", current.version, imported)
    with deployment.database.write() as session:
        session.execute(update(Project).where(Project.id == project.id).values(published_round=current.id))
        session.execute(update(Round).where(Round.id == current.id).values(published_at=now()))


def _import_window(
    deployment: Deployment, project: Project, current: Round, window: int, held: HeldLease
) -> int:
    """Import the first `window` tasks of the round's queue, and nothing else under its version."""
    label_studio = deployment.label_studio
    if current.version in label_studio.model_versions(project.id):
        label_studio.delete_predictions(project.id, current.version)  # half-published by a killed worker
    with deployment.database.write() as session:
        session.execute(update(QueueEntry).where(QueueEntry.round_id == current.id).values(published=False))
    imported = 0
    while entries := _next(deployment, current, window - imported):
        held.check()
        imported += _import(deployment, project, current, entries)
    # A server that was too slow for a killed worker, or for our patience, may have gone on storing meanwhile.
    if label_studio.model_versions(project.id).get(current.version, 0) > imported:
        raise ImportedTwice
    return imported


def clean_up(deployment: Deployment, current: Round) -> bool:
    """Delete what earlier rounds of ours left: their queues, and in a lull their predictions in Label Studio.

    Label Studio deletes a version in one transaction, row by row (18 ms each on PostgreSQL). Until it ends, whoever
    submits an annotation waits, and is given tasks that are not in that version. So while people label, only the oldest
    versions are deleted, where there are too many predictions.

    Returns:
        Whether all of it is gone.
    """
    # Not a later one, which may be publishing right now.
    earlier = (Round.project_id == current.project_id) & (Round.id < current.id)
    with deployment.database.write() as session:
        session.execute(delete(QueueEntry).where(QueueEntry.round_id.in_(select(Round.id).where(earlier))))
    counts = deployment.label_studio.model_versions(current.project_id)
    with deployment.database.read() as session:
        ours = session.scalars(select(Round.version).where(earlier).order_by(Round.id))
        left = {version: counts[version] for version in ours if version in counts}

    def may_delete() -> bool:
        return sum(left.values()) > KEPT_PREDICTIONS or is_lull(deployment.database, current.project_id)

    if left and may_delete():
        _let_requests_end(deployment, current.project_id)
    for version in list(left):  # the oldest first
        if not may_delete():
            return False
        deployment.label_studio.delete_predictions(current.project_id, version)
        del left[version]
    return True


def _let_requests_end(deployment: Deployment, project_id: int) -> None:
    """Wait for requests that began before the flip: without the old predictions, they would be served any task."""
    began = time.monotonic()
    deployment.label_studio.project(project_id)
    time.sleep(max(LAST_REQUESTS, SLOWEST_REQUEST * (time.monotonic() - began)))


def top_up(deployment: Deployment, project_id: int) -> int:
    """Publish more of the ranking where less than half of a window is left; returns how many tasks."""
    with lease(deployment.database, f"publish:{project_id}") as held:
        if held is None:
            return 0
        with deployment.database.read() as session:
            project = session.get_one(Project, project_id)
            current = session.get(Round, project.published_round or 0)
        if current is None or project.state != ProjectState.ACTIVE:
            return 0
        left, reserve = remaining(deployment, current)
        window = int(current.facts.get("window", 0))
        if left * 2 >= window or not reserve:
            return 0
        imported = 0
        while entries := _next(deployment, current, window - left - imported):
            held.check()
            # A worker that was killed, or a lost answer, may have left some imported and not noted.
            waiting = [entry.task_id for entry in entries]
            stored = deployment.label_studio.predicted(project_id, current.version, waiting)
            _note_published(deployment, current, [entry for entry in entries if entry.task_id in stored], {})
            if missing := [entry for entry in entries if entry.task_id not in stored]:
                _import(deployment, project, current, missing)
            imported += len(entries)
        return imported


def remaining(deployment: Deployment, current: Round) -> tuple[int, int]:
    """How many published tasks still wait for an annotator, and how many unlabeled ones the reserve holds.

    A skipped task waits for nobody in particular, so it is not counted as published; it may be published.
    """
    unlabeled = unlabeled_now(current.project_id)
    with deployment.database.read() as session:
        counts = session.execute(
            select(QueueEntry.published, SKIPPED, func.count())
            .join(Task, (Task.id == QueueEntry.task_id) & unlabeled)
            .where(QueueEntry.round_id == current.id)
            .group_by(QueueEntry.published, SKIPPED.name)
        ).all()
    waiting = sum(count for published, skipped, count in counts if published and not skipped)
    return waiting, sum(count for published, _, count in counts if not published)


def waiting_entries(current: Round) -> Select[QueueEntry]:
    """The entries of a round's queue whose tasks nobody has labeled."""
    return (
        select(QueueEntry)
        .join(Task, (Task.id == QueueEntry.task_id) & unlabeled_now(current.project_id))
        .where(QueueEntry.round_id == current.id)
    )


def unlabeled_now(project_id: int) -> ColumnElement[bool]:
    """Condition on `Task`: as far as syncs and events since tell, nobody has labeled it."""
    return (Task.project_id == project_id) & Task.target.is_(None) & ~Task.labeled & ~Task.touched


def _next(deployment: Deployment, current: Round, count: int) -> Sequence[QueueEntry]:
    """The next tasks of the queue that are not published: `count` of them, but no more than an import takes."""
    with deployment.database.read() as session:
        return session.scalars(
            waiting_entries(current)
            .where(~QueueEntry.published)
            .order_by(QueueEntry.rank)
            .limit(min(IMPORT_CHUNK, count))
        ).all()


def _import(deployment: Deployment, project: Project, current: Round, entries: Sequence[QueueEntry]) -> int:
    """Import queue entries; returns how many were, less than all where tasks were deleted meanwhile."""
    shown = _shown(deployment, project, current, entries)
    try:
        _send(deployment, project, current, entries, shown)
    except PredictionsRefused:
        # A task was deleted meanwhile, and one such task makes Label Studio refuse them all.
        existing = deployment.label_studio.task_ids(project.id)
        gone = [entry.task_id for entry in entries if entry.task_id not in existing]
        if not gone:
            raise
        with deployment.database.write() as session:
            session.execute(delete(Task).where(Task.project_id == project.id, Task.id.in_(gone)))
        entries = [entry for entry in entries if entry.task_id in existing]
        _send(deployment, project, current, entries, shown)
    _note_published(deployment, current, entries, shown)
    return len(entries)


def _note_published(
    deployment: Deployment, current: Round, entries: Sequence[QueueEntry], shown: Mapping[int, Shown]
) -> None:
    rows = [
        {
            "round_id": current.id,
            "rank": entry.rank,
            "task_id": entry.task_id,
            "score": entry.score,
            "reason": entry.reason,
            "published": True,
            "prediction": shown[entry.task_id].in_words() if entry.task_id in shown else None,
        }
        for entry in entries
    ]
    with deployment.database.write() as session:
        # Whole rows: PostgreSQL's driver takes a round trip for each row of an UPDATE.
        upsert(session, QueueEntry, rows)


def _shown(
    deployment: Deployment, project: Project, current: Round, entries: Sequence[QueueEntry]
) -> dict[int, Shown]:
    """What the learners think of queue entries; nothing in cold start."""
    if not current.trained:
        return {}
    config = read_labeling_config(project.label_config)
    return predict_stored(deployment, current, config, [entry.task_id for entry in entries])


def _send(
    deployment: Deployment,
    project: Project,
    current: Round,
    entries: Sequence[QueueEntry],
    shown: Mapping[int, Shown],
) -> None:
    """Import predictions; without their results where annotators are not to see them."""
    settings = LoopSettings.resolve(read_labeling_config(project.label_config).settings, project.extra_params)
    predictions = [
        {
            "task": entry.task_id,
            "result": shown.get(entry.task_id, NOTHING).result if settings.preannotate else [],
            "score": queue_score(entry.rank),
            "model_version": current.version,
        }
        for entry in entries
    ]
    if not predictions:
        return
    began = time.monotonic()
    created = deployment.label_studio.import_predictions(project.id, predictions)
    if (seconds := time.monotonic() - began) > SLOW_IMPORT:
        log.warning(
            "publish: Label Studio took %.0f s to import %d predictions, and its annotators waited meanwhile. "
            "Where the project is large, start it with %s=true.",
            seconds,
            len(predictions),
            BATCHED_IMPORT,
        )
    if created != len(predictions):
        raise NotStored(
            f"Label Studio kept {created} of {len(predictions)} predictions of {current.version}: "
            "the labeling config was probably changed meanwhile; the next attempt reads it again"
        )
