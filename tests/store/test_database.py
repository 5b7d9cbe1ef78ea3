import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import event, func, select, update
from sqlalchemy.exc import DBAPIError

from backend.store.database import CONNECTED_AHEAD, MIGRATIONS, Database, is_outage, reason_of, upsert
from backend.store.tables import Base, Event, Project, Task
from tests.stores import drop, servers


@pytest.fixture
def database(state_url: str) -> Database:
    database = Database(state_url)
    database.migrate()
    return database


def test_the_migrations_make_what_the_tables_declare(database: Database) -> None:
    with database.engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    assert differences == []


def test_migrating_from_several_threads_at_once(state_url: str) -> None:
    Database(state_url)
    failures: list[Exception] = []

    def migrate() -> None:
        try:
            Database(state_url).migrate()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert "projects" in sqlalchemy.inspect(Database(state_url).engine).get_table_names()


def test_concurrent_writers_wait_for_each_other(database: Database) -> None:
    def write(project_id: int) -> None:
        for _ in range(50):
            with database.write() as session:
                session.add(Event(project_id=project_id, action="ANNOTATION_CREATED", task_ids=[1]))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Event)) == 200


def test_connections_that_were_opened_ahead_are_used(database: Database) -> None:
    database.engine.dispose()
    opened: list[object] = []
    event.listen(database.engine, "connect", lambda connection, _record: opened.append(connection))
    database.connect_ahead()
    assert len(opened) == CONNECTED_AHEAD
    with database.read() as one, database.read() as another:
        assert one.scalar(select(1)) == another.scalar(select(1)) == 1
    assert len(opened) == CONNECTED_AHEAD


def test_a_write_that_fails_leaves_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError), database.write() as session:
        session.add(Project(id=1))
        session.flush()
        raise RuntimeError
    with database.read() as session:
        assert session.get(Project, 1) is None


def test_upsert_updates_the_given_columns_only(database: Database) -> None:
    with database.write() as session:
        session.add(Project(id=1))
        session.add(Task(project_id=1, id=5, source="a.png", embedded="small"))
    rows = [
        {"project_id": 1, "id": task_id, "source": "b.png", "labeled": True, "ground_truth": False}
        | {"skips": 0, "touched": False, "audit": False}
        for task_id in range(5, 1_205)  # more than one statement holds
    ]
    with database.write() as session:
        upsert(session, Task, rows)
    with database.read() as session:
        task = session.get_one(Task, (1, 5))
        assert (task.source, task.labeled, task.embedded) == ("b.png", True, "small")
        assert session.scalar(select(func.count()).select_from(Task)) == 1_200


def test_missing_json_is_null_for_sql_too(database: Database) -> None:
    with database.write() as session:
        session.add(Project(id=1))
        session.add(Task(project_id=1, id=5, source="a.png", target=None))
    with database.read() as session:
        assert session.scalar(select(func.count()).where(Task.target.is_(None))) == 1


def test_tasks_of_before_there_was_metadata_are_read_again(state_url: str) -> None:
    database = Database(state_url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.engine.connect() as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        columns = (
            "id, title, created, state, label_config, extra_params, backend_url, webhook_secret, restore, "
        )
        columns += (
            "synced_until, synced_event, synced_tasks, synced_annotated, annotations_per_task, audit_share"
        )
        values = "3, '', 0, 'active', '', '{}', '', '', '{}', '2026-01-01 00:00:00', 0, 0, 0, 1, 0.1"
        connection.exec_driver_sql(f"INSERT INTO projects ({columns}) VALUES ({values})")
        connection.exec_driver_sql(
            "INSERT INTO tasks (project_id, id, source, labeled, ground_truth, skips, touched, audit) "
            "VALUES (3, 7, 'a.png', FALSE, FALSE, 0, FALSE, FALSE)"
        )
    database.migrate()
    with database.read() as session:
        assert session.get_one(Project, 3).synced_until is None
        assert session.get_one(Task, (3, 7)).groups == {}
    with database.engine.connect() as connection, connection.begin():
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
        assert "groups" not in {c["name"] for c in sqlalchemy.inspect(connection).get_columns("tasks")}


@pytest.fixture
def postgresql() -> Iterator[Database]:
    store = servers().create()
    database = Database(store["DATABASE_URL"])
    database.migrate()
    yield database
    database.engine.dispose()
    drop(store)


def test_of_postgresql_s_errors_some_pass(postgresql: Database) -> None:
    passing = {
        "53100": True,  # the disk is full
        "53200": True,  # out of memory
        "53300": True,  # too many connections
        "40001": True,  # could not serialize
        "40P01": True,  # deadlock
        "55P03": True,  # a lock is not available
        "57P01": True,  # told to stop
        "57014": False,  # canceled by a person
        "23505": False,  # not unique
        "42P01": False,  # no such table
    }
    found = {}
    for code in passing:
        failure = f"DO $$ BEGIN RAISE EXCEPTION 'it fails' USING ERRCODE = '{code}'; END $$"
        with pytest.raises(DBAPIError) as raised, postgresql.write() as session:
            session.connection().exec_driver_sql(failure)
        found[code] = is_outage(raised.value)
    assert found == passing


def test_of_two_that_wait_for_each_other_one_may_try_again(postgresql: Database) -> None:
    with postgresql.write() as session:
        session.add_all([Project(id=1), Project(id=2)])
    both = threading.Barrier(2)

    def change(first: int, second: int) -> Exception | None:
        try:
            with postgresql.write() as session:
                session.execute(update(Project).where(Project.id == first).values(title="changed"))
                both.wait(60)
                session.execute(update(Project).where(Project.id == second).values(title="changed"))
        except DBAPIError as error:
            return error
        return None

    with ThreadPoolExecutor(2) as pool:
        failures = [failure for failure in pool.map(change, (1, 2), (2, 1)) if failure]
    assert [is_outage(failure) for failure in failures] == [True]


def test_without_a_free_connection_the_database_is_away_for_now(postgresql: Database) -> None:
    with postgresql.write() as session:
        session.connection().exec_driver_sql("CREATE ROLE unwanted LOGIN CONNECTION LIMIT 0")
    refused = Database(postgresql.engine.url.set(username="unwanted").render_as_string())
    try:
        with pytest.raises(DBAPIError) as raised, refused.read() as session:
            session.scalar(select(1))
        assert reason_of(raised.value) == 'too many connections for role "unwanted"'
        assert is_outage(raised.value)
    finally:
        with postgresql.write() as session:
            session.connection().exec_driver_sql("DROP ROLE unwanted")
