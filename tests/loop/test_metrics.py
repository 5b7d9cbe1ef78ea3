"""The loop's metrics, from rows in a real store."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event, update

from backend.deployment import Deployment
from backend.loop.metrics import LoopCollector
from backend.loop.publishing import remaining
from backend.loop.steps import STEPS
from backend.store.database import Database
from backend.store.leases import presence
from backend.store.tables import Event, Project, ProjectState, QueueEntry, Round, RoundState, Task
from tests.conftest import new_deployment

FINISHED = datetime(2026, 1, 31, 12, tzinfo=UTC)
MEASURED = {"metric": "accuracy", "score": 0.9, "interval": [0.8, 0.95], "total": 40, "classes": []}


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return new_deployment(tmp_path)


@pytest.fixture
def database(deployment: Deployment) -> Database:
    return deployment.database


def scraped(database: Database) -> dict[tuple[str, ...], float]:
    """What a scrape says: the value by the sample's name and the values of its labels, in the labels' order."""
    registry = CollectorRegistry()
    registry.register(LoopCollector(database))
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (
            sample.name.removeprefix("active_learning_"),
            *(v for _, v in sorted(sample.labels.items())),
        ): sample.value
        for family in families
        for sample in family.samples
    }


def a_round(number: int, state: RoundState, **values: Any) -> Round:
    defaults = {"project_id": 3, "version": f"round-{number}", "reason": "", "step": "sync"}
    return Round(**defaults | {"number": number, "state": state} | values)


def fill(database: Database) -> None:
    """Project 3: tasks 1 to 10 of which 1 to 3 are labeled; its second round serves a queue of 4 to 9."""
    with database.write() as session:
        session.add(
            Project(id=3, title='Digits "0-9"', state=ProjectState.ACTIVE, paused=True, synced_event=1)
        )
        session.add(Project(id=4, title="New", problem="Label Studio refuses the key."))
        session.flush()
        for task_id in range(1, 11):
            target = {"digit": {"votes": {"3": 1.0}}} if task_id <= 3 else None
            session.add(Task(project_id=3, id=task_id, source=f"{task_id}.png", target=target))
        session.flush()
        session.get_one(Task, (3, 4)).touched = True
        session.get_one(Task, (3, 5)).skips = 1
        session.get_one(Task, (3, 10)).broken = "The image is damaged."
        seconds = [dict.fromkeys(STEPS, 0.5), dict.fromkeys(STEPS, 1.5) | {"fit": 8.0}]
        served = a_round(
            1,
            RoundState.DONE,
            seconds=seconds[1],
            finished_at=FINISHED,
            facts={"window": 4, "stop": "accuracy is 90 %", "controls": {"digit": {"measured": MEASURED}}},
        )
        rounds = [
            a_round(0, RoundState.DONE, seconds=seconds[0], finished_at=FINISHED),
            served,
            a_round(2, RoundState.FAILED, seconds={"sync": 100.0}, finished_at=FINISHED),
            a_round(3, RoundState.RUNNING, seconds={"sync": 100.0}),
        ]
        for one in rounds:
            session.add(one)
            session.flush()
        session.get_one(Project, 3).published_round = served.id
        session.add_all(
            QueueEntry(round_id=served.id, rank=rank, task_id=task_id, reason="", published=rank < 4)
            for rank, task_id in enumerate(range(4, 10))
        )
        for action, task_ids in (
            ("ANNOTATION_CREATED", [1]),  # covered by the last sync
            ("ANNOTATION_CREATED", [2]),
            ("ANNOTATION_UPDATED", [2, 4]),
            ("ANNOTATIONS_DELETED", []),
            ("TASKS_CREATED", [11]),
        ):
            session.add(Event(project_id=3, action=action, task_ids=task_ids))
            session.flush()


def test_a_scrape_tells_what_the_store_holds(deployment: Deployment, database: Database) -> None:
    fill(database)
    found = scraped(database)
    with database.read() as session:
        waiting, reserve = remaining(deployment, session.get_one(Round, 2))
    of_steps = dict.fromkeys(STEPS, 2.0) | {"fit": 8.5}
    whole = 0.5 * len(STEPS), 1.5 * (len(STEPS) - 1) + 8.0
    expected: dict[tuple[str, ...], float] = {
        ("project_info", "3", "active", 'Digits "0-9"'): 1,
        ("project_info", "4", "connecting", "New"): 1,
        ("project_paused", "3"): 1,
        ("project_paused", "4"): 0,
        ("project_problem", "3"): 0,
        ("project_problem", "4"): 1,
        ("tasks", "3"): 10,
        ("labels", "3"): 3,
        ("pool_tasks", "3"): 6,
        ("broken_images", "3"): 1,
        ("queue_waiting_tasks", "3"): waiting,
        ("queue_reserve_tasks", "3"): reserve,
        ("queue_window_tasks", "3"): 4,
        ("pending_events", "3"): 4,
        ("pending_events", "4"): 0,
        ("waiting_labels", "3"): 3,  # tasks 2 and 4, and the deletion, which names none
        ("waiting_labels", "4"): 0,
        ("rounds_total", "done", "3"): 2,
        ("rounds_total", "failed", "3"): 1,
        ("rounds_total", "done", "4"): 0,
        ("rounds_total", "failed", "4"): 0,
        ("unfinished_rounds", "3", "running"): 1,
        ("unfinished_rounds", "3", "waiting"): 0,
        ("unfinished_rounds", "4", "running"): 0,
        ("unfinished_rounds", "4", "waiting"): 0,
        ("round_seconds_count", "3"): 2,
        ("round_seconds_sum", "3"): sum(whole),
        ("last_round_finished_timestamp_seconds", "3"): FINISHED.timestamp(),
        ("stop_recommended", "3"): 1,
        ("accuracy", "digit", "accuracy", "3"): 0.9,
        ("accuracy_lower", "digit", "accuracy", "3"): 0.8,
        ("accuracy_upper", "digit", "accuracy", "3"): 0.95,
        ("accuracy_tasks", "digit", "accuracy", "3"): 40,
        ("workers",): 0,
    }
    for step in STEPS:
        expected["round_step_seconds_count", "3", step] = 2
        expected["round_step_seconds_sum", "3", step] = of_steps[step]
        expected["last_round_step_seconds", "3", step] = 8.0 if step == "fit" else 1.5
    buckets = {key: found.pop(key) for key in list(found) if key[0] == "round_seconds_bucket"}
    assert (waiting, reserve) == (2, 2)
    assert found == pytest.approx(expected)
    assert len(buckets) > 5
    for (_, bound, project), count in buckets.items():
        assert project == "3"
        assert count == sum(seconds <= float(bound) for seconds in whole), bound


def test_a_queue_that_is_used_up_counts_none(database: Database) -> None:
    fill(database)
    with database.write() as session:
        session.execute(update(Task).values(labeled=True))
    found = scraped(database)
    assert found["queue_waiting_tasks", "3"] == found["queue_reserve_tasks", "3"] == 0


def test_a_store_without_projects_has_no_sample_but_the_workers(database: Database) -> None:
    assert scraped(database) == {("workers",): 0}
    with presence(database, "worker"):
        assert scraped(database) == {("workers",): 1}


def test_the_number_of_queries_does_not_grow_with_the_projects(database: Database) -> None:
    fill(database)
    statements: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    scraped(database)
    few = len(statements)
    with database.write() as session:
        session.add_all(Project(id=number, title="") for number in range(10, 40))
    statements.clear()
    scraped(database)
    assert len(statements) == few
