"""Webhooks at the same time, on PostgreSQL, where several transactions write at once."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select, update

from backend.deployment import Deployment
from backend.loop.events import Outcome, record
from backend.loop.jobs import Jobs
from backend.store.tables import Event, Project, ProjectState, Task
from tests.conftest import new_deployment
from tests.stores import drop, servers

LABELED = "ANNOTATION_CREATED"


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """A project of 40 tasks."""
    store = servers().create()
    made = new_deployment(tmp_path, database_url=store["DATABASE_URL"], redis_url=store["REDIS_URL"])
    with made.database.write() as session:
        session.add(Project(id=1, state=ProjectState.ACTIVE, label_config="<View/>"))
        for task_id in range(1, 41):
            session.add(Task(project_id=1, id=task_id, source="a.png"))
    yield made
    made.database.engine.dispose()
    drop(store)


def touched(deployment: Deployment) -> set[int]:
    with deployment.database.read() as session:
        return set(session.scalars(select(Task.id).where(Task.touched)))


def test_all_are_recorded_once_and_nudge_a_worker(deployment: Deployment) -> None:
    jobs = Jobs(deployment)
    start = threading.Barrier(20)

    def tell(task_id: int) -> Outcome:
        start.wait()
        return jobs.take_event(LABELED, 1, {"task": {"id": task_id}})

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(tell, range(1, 41))) == {Outcome.RECORDED}
    with deployment.database.read() as session:
        recorded = [event.task_ids for event in session.scalars(select(Event))]
    assert sorted(recorded) == [[task_id] for task_id in range(1, 41)]
    assert touched(deployment) == set(range(1, 41))
    assert jobs.huey.scheduled_count() + jobs.huey.pending_count() > 0


def test_none_waits_for_a_row_that_a_round_is_writing(deployment: Deployment) -> None:
    with deployment.database.write() as session, ThreadPoolExecutor(1) as pool:
        session.execute(update(Task).where(Task.id < 5).values(broken="broken"))
        told = pool.submit(record, deployment.database, LABELED, 1, {"task": {"id": 3}})
        assert told.result(timeout=60) == Outcome.RECORDED
    with deployment.database.read() as session:
        assert [event.task_ids for event in session.scalars(select(Event))] == [[3]]
    assert touched(deployment) == set()
    assert record(deployment.database, LABELED, 1, {"task": {"id": 3}}) == Outcome.RECORDED
    assert touched(deployment) == {3}
