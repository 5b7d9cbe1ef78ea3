"""When a round is due, and why."""

from datetime import datetime, timedelta

from sqlalchemy import func, select

from backend.deployment import Deployment
from backend.loop.events import (
    ANNOTATION_ACTIONS,
    MISSED,
    PROJECT_UPDATED,
    SETTINGS_CHANGED,
    START_TRAINING,
    pending_events,
)
from backend.loop.publishing import remaining, unlabeled_now
from backend.loop.rounds import latest_round, served_round
from backend.settings import LoopSettings
from backend.store.tables import Event, Project, Round, RoundState, Task, now


def due(deployment: Deployment, project: Project, settings: LoopSettings) -> str | None:
    """Why a round is to start now, in words; None: none is."""
    latest = latest_round(deployment, project.id)
    if latest is None:
        return "the project was connected"
    events = pending_events(deployment.database, project)
    actions = {event.action for event in events}
    if START_TRAINING in actions:
        return "someone pressed Start training"
    if PROJECT_UPDATED in actions:
        return "the labeling config was changed"
    if SETTINGS_CHANGED in actions:
        return "the settings were changed"
    if MISSED in actions:
        return "Label Studio changed without telling"
    if latest.state == RoundState.FAILED and events:
        return "the last round failed, and something changed since"
    return _enough_labels(events, settings) or _queue_needs(deployment, project, latest, settings)


def when_due(deployment: Deployment, project: Project, settings: LoopSettings) -> datetime | None:
    """When labels that are too few for a round will have waited long enough; None: there are none."""
    events = pending_events(deployment.database, project)
    labels = [event.received_at for event in events if event.action in ANNOTATION_ACTIONS]
    return min(labels) + timedelta(seconds=settings.round_after_seconds) if labels else None


def labels_waiting(events: list[Event]) -> int:
    """How many tasks got, changed or lost an annotation since the last sync."""
    named = {task_id for event in events for task_id in event.task_ids if event.action in ANNOTATION_ACTIONS}
    # A deletion names no task: count each as one.
    return len(named) + sum(event.action == "ANNOTATIONS_DELETED" for event in events)


def _enough_labels(events: list[Event], settings: LoopSettings) -> str | None:
    labels = labels_waiting(events)
    if labels >= settings.labels_per_round:
        return f"{labels} new labels"
    oldest = min((e.received_at for e in events if e.action in ANNOTATION_ACTIONS), default=None)
    if oldest and now() - oldest >= timedelta(seconds=settings.round_after_seconds):
        return f"{labels} new labels have waited for {settings.round_after_seconds:.0f} s"
    return None


def _queue_needs(
    deployment: Deployment, project: Project, latest: Round, settings: LoopSettings
) -> str | None:
    """A new ranking, because this one is nearly used up or most of the pool was not in it."""
    served = served_round(deployment, project.id)
    if served is None:
        return None
    waiting, reserve = remaining(deployment, served)
    with deployment.database.read() as session:
        unlabeled = select(func.count()).where(unlabeled_now(project.id), Task.skips == 0)
        pool = session.scalar(unlabeled) or 0
        embedded = session.scalar(unlabeled.where(Task.embedded.is_not(None))) or 0
    if not reserve and 2 * waiting < settings.window and pool > waiting:
        return "the queue is nearly used up"
    created = any(e.action == "TASKS_CREATED" for e in pending_events(deployment.database, project))
    if created and 2 * waiting < settings.window:
        return "tasks were added"
    if (
        not served.trained
        and embedded >= 2 * max(1, served.facts.get("candidates", 0))
        and (embedded == pool or latest.facts.get("candidates", 0) == 0)
    ):
        return "the rest of the images has been embedded"
    return None
