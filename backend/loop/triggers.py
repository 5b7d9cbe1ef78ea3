"""When a round is due, and why."""

from datetime import datetime, timedelta

from sqlalchemy import func, select

from backend.deployment import Deployment
from backend.loop.events import (
    ANNOTATION_ACTIONS,
    ANNOTATIONS_DELETED,
    DAMAGED,
    MISSED,
    PROJECT_UPDATED,
    SETTINGS_CHANGED,
    START_TRAINING,
    TASKS_CREATED,
    pending_events,
)
from backend.loop.publishing import remaining, unlabeled_now
from backend.loop.rounds import FAILED_AFTER, latest_round, served_round
from backend.settings import LoopSettings
from backend.store.tables import Event, Project, Round, RoundState, Task, now

REASONS = {
    START_TRAINING: "someone pressed Start training",
    PROJECT_UPDATED: "the labeling config was changed",
    SETTINGS_CHANGED: "the settings were changed",
    MISSED: "Label Studio changed without telling",
    DAMAGED: "a file of the last round was damaged",
}  # by the event that is one by itself


def due(deployment: Deployment, project: Project, settings: LoopSettings) -> str | None:
    """Why a round is to start now, in words; None: none is."""
    latest = latest_round(deployment, project.id)
    events = pending_events(deployment.database, project)
    if latest is not None and latest.state == RoundState.FAILED:
        # Without anything new, the next try would fail as well, and so on for ever.
        new = any(event.id > latest.facts.get(FAILED_AFTER, 0) for event in events)
        return "the last round failed, and something changed since" if new else None
    if latest is None or project.synced_until is None:
        return "the project was connected"
    actions = {event.action for event in events}
    if project.paused:
        pressed = START_TRAINING in actions
        return (
            REASONS[START_TRAINING]
            if pressed
            else _queue_needs(deployment, project, latest, settings, events)
        )
    for action, reason in REASONS.items():
        if action in actions:
            return reason
    return _enough_labels(events, settings) or _queue_needs(deployment, project, latest, settings, events)


def when_due(deployment: Deployment, project: Project, settings: LoopSettings) -> datetime | None:
    """When labels that are too few for a round will have waited long enough; None: there are none, or it is paused."""
    if project.paused:
        return None
    events = pending_events(deployment.database, project)
    labels = [event.received_at for event in events if event.action in ANNOTATION_ACTIONS]
    return min(labels) + timedelta(seconds=settings.round_after_seconds) if labels else None


def labels_waiting(events: list[Event]) -> int:
    """How many tasks got, changed or lost an annotation since the last sync."""
    named = {task_id for event in events for task_id in event.task_ids if event.action in ANNOTATION_ACTIONS}
    # A deletion names no task: count each as one.
    return len(named) + sum(event.action == ANNOTATIONS_DELETED for event in events)


def _enough_labels(events: list[Event], settings: LoopSettings) -> str | None:
    labels = labels_waiting(events)
    if labels >= settings.labels_per_round:
        return f"{labels} new labels"
    oldest = min((e.received_at for e in events if e.action in ANNOTATION_ACTIONS), default=None)
    # Not before a label came, but after the clock was put back: then it has waited long enough, too.
    if oldest and abs(now() - oldest) >= timedelta(seconds=settings.round_after_seconds):
        return f"{labels} new labels have waited for {settings.round_after_seconds:.0f} s"
    return None


def _queue_needs(
    deployment: Deployment, project: Project, latest: Round, settings: LoopSettings, events: list[Event]
) -> str | None:
    """A new ranking, because this one is nearly used up or most of the pool was not in it."""
    served = served_round(deployment, project.id)
    if served is None:
        return None
    waiting, reserve = remaining(deployment, served)
    unlabeled = select(func.count()).where(unlabeled_now(project.id), Task.skips == 0)
    rankable = unlabeled.where(~Task.audit, Task.broken.is_(None))
    with deployment.database.read() as session:
        pool = session.scalar(unlabeled) or 0
        left = session.scalar(rankable) or 0
        embedded = session.scalar(rankable.where(Task.embedded == latest.facts.get("embedder"))) or 0
    # The queue drains by events; without one since the last round, another would make the same queue.
    if events and 2 * waiting < settings.window:
        if not reserve and pool > waiting:
            return "the queue is nearly used up"
        if any(event.action == TASKS_CREATED for event in events):
            return "tasks were added"
    candidates = latest.facts.get("candidates", 0)
    if not served.trained and embedded >= 2 * max(1, candidates) and (embedded == left or candidates == 0):
        return "the rest of the images has been embedded"
    return None
