"""What the store knows of the loop, as Prometheus metrics; asked for at each scrape, the same on every machine."""

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector
from sqlalchemy import ColumnElement, Select, case, func, select
from sqlalchemy.orm import Session, load_only

from backend.loop.events import ANNOTATION_ACTIONS
from backend.loop.steps import STEPS
from backend.loop.triggers import labels_waiting
from backend.store.database import Database
from backend.store.leases import WORKER, present
from backend.store.tables import Event, Project, QueueEntry, Round, RoundState, Task

PREFIX = "active_learning_"
ROUND_SECONDS = (1, 2, 5, 10, 30, 60, 120, 300, 900, 3600)  # upper bounds of the histogram's buckets

UNLABELED = Task.target.is_(None) & ~Task.labeled & ~Task.touched


class LoopCollector(Collector):
    """Queries that count, one for a few metrics of the same rows; a project is named by its number."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterator[Metric]:
        """All metrics of all projects."""
        with self._database.read() as session:
            yield from _projects(session)
            yield from _tasks(session)
            yield from _queues(session)
            yield from _events(session)
            yield from _rounds(session)
            yield from _last_rounds(session)
            yield from _served(session)
        workers = GaugeMetricFamily(PREFIX + "workers", "Processes of `active-learning worker` that run")
        workers.add_metric([], present(self._database, WORKER))
        yield workers


def _gauge(name: str, documentation: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, documentation, labels=["project", *labels])


def _projects(session: Session) -> Iterator[Metric]:
    info = _gauge("project_info", "A connected project: its title and state; always 1", "title", "state")
    paused = _gauge("project_paused", "Whether a person has paused the loop of the project")
    problem = _gauge(
        "project_problem", "Whether something keeps the loop from running; the dashboard says what"
    )
    for row in session.execute(
        select(Project.id, Project.title, Project.state, Project.paused, Project.problem.is_not(None))
    ):
        project_id, title, state, is_paused, has_problem = row
        info.add_metric([str(project_id), title, state], 1)
        paused.add_metric([str(project_id)], is_paused)
        problem.add_metric([str(project_id)], has_problem)
    yield from (info, paused, problem)


def _tasks(session: Session) -> Iterator[Metric]:
    families = (
        _gauge("tasks", "Tasks of the project"),
        _gauge("labels", "Tasks with an answer that the loop learns from"),
        _gauge("pool_tasks", "Tasks that nobody has labeled"),
        _gauge("broken_images", "Tasks left out because their image cannot be used"),
    )
    counts = (
        func.count(),
        _count(Task.target.is_not(None)),
        _count(UNLABELED),
        _count(Task.broken.is_not(None)),
    )
    for project_id, *values in session.execute(select(Task.project_id, *counts).group_by(Task.project_id)):
        for family, value in zip(families, values, strict=True):
            family.add_metric([str(project_id)], value)
    yield from families


def _queues(session: Session) -> Iterator[Metric]:
    waiting = _gauge("queue_waiting_tasks", "Published tasks of the queue that wait for an annotator")
    reserve = _gauge("queue_reserve_tasks", "Unlabeled tasks of the queue that are not published yet")
    unlabeled = (Task.project_id == Project.id) & (Task.id == QueueEntry.task_id) & UNLABELED
    for project_id, published, unpublished in session.execute(
        select(
            Project.id,
            _count(QueueEntry.published & (Task.skips == 0)),
            _count(~QueueEntry.published & Task.id.is_not(None)),
        )
        .outerjoin(QueueEntry, QueueEntry.round_id == Project.published_round)
        .outerjoin(Task, unlabeled)  # outer: a queue that is used up counts 0
        .where(Project.published_round.is_not(None))
        .group_by(Project.id)
    ):
        waiting.add_metric([str(project_id)], published)
        reserve.add_metric([str(project_id)], unpublished)
    yield from (waiting, reserve)


def _events(session: Session) -> Iterator[Metric]:
    pending = _gauge("pending_events", "Events that no round has covered yet")
    waiting = _gauge("waiting_labels", "Tasks that got, changed or lost an annotation since the last sync")
    uncovered = Event.id > Project.synced_event
    joined = select(Project.id, func.count(Event.id)).outerjoin(
        Event, (Event.project_id == Project.id) & uncovered
    )
    annotated: dict[int, list[Event]] = {}
    for event in session.scalars(
        select(Event)
        .options(load_only(Event.project_id, Event.action, Event.task_ids))
        .join(Project, Project.id == Event.project_id)
        .where(uncovered, Event.action.in_(ANNOTATION_ACTIONS))
    ):
        annotated.setdefault(event.project_id, []).append(event)
    for project_id, count in session.execute(joined.group_by(Project.id)):
        pending.add_metric([str(project_id)], count)
        waiting.add_metric([str(project_id)], labels_waiting(annotated.get(project_id, [])))
    yield from (pending, waiting)


def _rounds(session: Session) -> Iterator[Metric]:
    """Rounds are never deleted but with their project, so that what counts them only grows."""
    finished = CounterMetricFamily(
        PREFIX + "rounds", "Rounds that came to an end", labels=["project", "outcome"]
    )
    unfinished = _gauge("unfinished_rounds", "Rounds that are running, or waiting to go on", "state")
    counts = {
        (project_id, state): count
        for project_id, state, count in session.execute(
            select(Round.project_id, Round.state, func.count()).group_by(Round.project_id, Round.state)
        )
    }
    for project_id in session.scalars(select(Project.id)):
        for state in (RoundState.DONE, RoundState.FAILED):
            finished.add_metric([str(project_id), state], counts.get((project_id, state), 0))
        for state in (RoundState.RUNNING, RoundState.WAITING):
            unfinished.add_metric([str(project_id), state], counts.get((project_id, state), 0))
    yield from (finished, unfinished)
    yield from _durations(session)


def _durations(session: Session) -> Iterator[Metric]:
    """Of rounds that are done; what a round waited between its steps is not counted."""
    steps = SummaryMetricFamily(
        PREFIX + "round_step_seconds", "Work at a step of the rounds", labels=["project", "step"]
    )
    whole = HistogramMetricFamily(
        PREFIX + "round_seconds", "Work at all steps of a round together", labels=["project"]
    )
    seconds = {name: func.coalesce(Round.seconds[name].as_float(), 0.0).label(name) for name in STEPS}
    done = select(Round.project_id, *seconds.values()).where(Round.state == RoundState.DONE).cte()
    done = done.prefix_with("MATERIALIZED")  # the JSON is read once
    total = sum((done.c[name] for name in list(STEPS)[1:]), start=done.c[next(iter(STEPS))])
    query: Select[Any] = select(
        done.c.project_id,
        func.count(),
        *(func.sum(done.c[name]) for name in STEPS),
        *(_count(total <= bound) for bound in ROUND_SECONDS),
    )
    for project_id, count, *values in session.execute(query.group_by(done.c.project_id)):
        sums, below = values[: len(STEPS)], values[len(STEPS) :]
        for name, of_step in zip(STEPS, sums, strict=True):
            steps.add_metric([str(project_id), name], count, of_step)
        buckets = [(f"{bound}.0", n) for bound, n in zip(ROUND_SECONDS, below, strict=True)]
        whole.add_metric([str(project_id)], [*buckets, ("+Inf", count)], sum(sums))
    yield from (steps, whole)


def _last_rounds(session: Session) -> Iterator[Metric]:
    finished = _gauge("last_round_finished_timestamp_seconds", "When the last round was done, Unix time")
    steps = _gauge("last_round_step_seconds", "Work at a step of the last round that was done", "step")
    last = select(func.max(Round.id)).where(Round.state == RoundState.DONE).group_by(Round.project_id)
    for project_id, finished_at, seconds in session.execute(
        select(Round.project_id, Round.finished_at, Round.seconds).where(Round.id.in_(last))
    ):
        if finished_at is not None:
            finished.add_metric([str(project_id)], finished_at.timestamp())
        for name in STEPS:
            if name in seconds:
                steps.add_metric([str(project_id), name], seconds[name])
    yield from (finished, steps)


def _served(session: Session) -> Iterator[Metric]:
    """Of the round whose queue is served: a row for each project."""
    window = _gauge(
        "queue_window_tasks", "Tasks that are published ahead of the annotators when the window is full"
    )
    stop = _gauge("stop_recommended", "Whether the loop recommends to stop labeling")
    which = ("control", "metric")
    score = _gauge(
        "accuracy", "What the model scores on the tasks kept for measuring; see the label metric", *which
    )
    lower = _gauge("accuracy_lower", "Lower bound of the 95 % interval of the accuracy", *which)
    upper = _gauge("accuracy_upper", "Upper bound of the 95 % interval of the accuracy", *which)
    measured_on = _gauge("accuracy_tasks", "Labeled tasks that the accuracy was measured on", *which)
    served = select(Project.id, Round.facts).join(Round, Round.id == Project.published_round)
    for project_id, facts in session.execute(served):
        window.add_metric([str(project_id)], facts.get("window", 0))
        stop.add_metric([str(project_id)], bool(facts.get("stop")))
        for control, of_control in facts.get("controls", {}).items():
            if measured := of_control.get("measured"):
                labels = [str(project_id), control, measured["metric"]]
                low, high = measured["interval"]
                score.add_metric(labels, measured["score"])
                lower.add_metric(labels, low)
                upper.add_metric(labels, high)
                measured_on.add_metric(labels, measured["total"])
    yield from (window, stop, score, lower, upper, measured_on)


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    """How many rows of a group it holds for."""
    return func.count(case((condition, 1)))
