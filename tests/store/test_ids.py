from collections.abc import Sequence

import pytest
from sqlalchemy import select

from backend.store.database import Database, upsert
from backend.store.ids import read_ids, read_ids_by_part
from backend.store.tables import Project, Task


@pytest.fixture
def database(state_url: str) -> Database:
    database = Database(state_url)
    database.migrate()
    with database.write() as session:
        session.add(Project(id=1))
        session.flush()
    return database


def add(database: Database, ids: Sequence[int]) -> None:
    tasks = [{"project_id": 1, "id": task_id, "source": f"{task_id % 2}.png"} for task_id in ids]
    with database.write() as session:
        upsert(session, Task, tasks)


@pytest.mark.parametrize("ids", [[], [7], [2**31 - 1, 3, 0, 1_000_000_000]])
def test_the_ids_that_a_query_finds(database: Database, ids: list[int]) -> None:
    add(database, ids)
    with database.read() as session:
        found = read_ids(session, select(Task.id).where(Task.project_id == 1))
    assert found.dtype == "int64"
    assert found.tolist() == sorted(ids)


def test_ids_by_part(database: Database) -> None:
    add(database, range(20_000))
    with database.read() as session:
        found = read_ids_by_part(session, select(Task.source, Task.id).where(Task.id > 10))
        none = read_ids_by_part(session, select(Task.source, Task.id).where(Task.id > 20_000))
    assert {name: ids.tolist() for name, ids in found.items()} == {
        "0.png": list(range(12, 20_000, 2)),
        "1.png": list(range(11, 20_000, 2)),
    }
    assert none == {}
