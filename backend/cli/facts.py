"""What the store knows of a project, as JSON takes it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select

from backend.deployment import Deployment
from backend.loop.advancing import project_settings
from backend.loop.events import pending_events
from backend.loop.publishing import remaining, waiting_entries
from backend.loop.rounds import latest_round, served_round
from backend.loop.status import describe
from backend.loop.triggers import labels_waiting
from backend.store.tables import Project, QueueEntry, Round


def status_facts(deployment: Deployment, project: Project) -> dict[str, Any]:
    """What the loop of a project is doing. Numbers are null where no round has been served yet.

    measured: by control, as in `round_facts`, of the served round.
    labels_waiting: tasks that were labeled, or whose label was changed, since the last round began.
    window, reserve: tasks that nobody has labeled, published and kept for later.
    """
    settings = project_settings(deployment, project.id)
    latest, served = latest_round(deployment, project.id), served_round(deployment, project.id)
    window, reserve = remaining(deployment, served) if served else (None, None)
    return {
        "project": project.id,
        "title": project.title,
        "state": project.state,
        "paused": project.paused,
        "problem": project.problem,
        "round": _round(latest) if latest else None,
        "serving": served.version if served else None,
        "labels": served.facts.get("labels") if served else None,
        "measured": _measured(served) if served else {},
        "labels_waiting": labels_waiting(pending_events(deployment.database, project)),
        "labels_per_round": settings.labels_per_round if settings else None,
        "window": window,
        "reserve": reserve,
        "stop": served.facts.get("stop") if served else None,
        "sentences": describe(deployment, project, settings),
    }


def round_facts(deployment: Deployment, project_id: int, limit: int) -> list[dict[str, Any]]:
    """The newest rounds of a project, the newest first."""
    query = select(Round).where(Round.project_id == project_id).order_by(Round.id.desc()).limit(limit)
    with deployment.database.read() as session:
        return [_round(one) for one in session.scalars(query)]


def queue_facts(deployment: Deployment, project_id: int, limit: int) -> dict[str, Any]:
    """The first tasks of the served ranking that nobody has labeled, in order."""
    served = served_round(deployment, project_id)
    if served is None:
        return {"version": None, "waiting": 0, "reserve": 0, "tasks": []}
    waiting, reserve = remaining(deployment, served)
    query = (
        waiting_entries(served)
        # What is published is served before what is not, whatever their ranks.
        .order_by(QueueEntry.published.desc(), QueueEntry.rank)
        .limit(limit)
    )
    with deployment.database.read() as session:
        tasks = [_entry(entry) for entry in session.scalars(query)]
    return {"version": served.version, "waiting": waiting, "reserve": reserve, "tasks": tasks}


def _entry(entry: QueueEntry) -> dict[str, Any]:
    return {
        "rank": entry.rank,
        "task": entry.task_id,
        "published": entry.published,
        "score": entry.score,
        "prediction": entry.prediction,
        "reason": entry.reason,
    }


def _round(one: Round) -> dict[str, Any]:
    return {
        "number": one.number,
        "version": one.version,
        "state": one.state,
        "step": one.step,
        "reason": one.reason,
        "error": one.error,
        "trained": one.trained,
        "labels": one.facts.get("labels"),
        "measured": _measured(one),
        "seconds": one.seconds,
        "started": _moment(one.started_at),
        "published": _moment(one.published_at),
        "finished": _moment(one.finished_at),
    }


def _measured(one: Round) -> dict[str, Any]:
    """By control: metric, score and its 95 % interval, on how many tasks; null where none measures it."""
    controls: Mapping[str, Any] = one.facts.get("controls", {})
    return {name: _score(of_control.get("measured")) for name, of_control in controls.items()}


def _score(measured: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return {key: measured[key] for key in ("metric", "score", "interval", "total")} if measured else None


def _moment(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds") if at else None
