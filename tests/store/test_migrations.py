"""A filled store goes to the newest schema and back, from each revision; an older process meets a newer schema."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from backend.store.database import MIGRATIONS, Database
from backend.store.tables import Base, Event, Project, QueueEntry, Round, Task

CONFIG = Config()
CONFIG.set_main_option("script_location", str(MIGRATIONS))
REVISIONS = [script.revision for script in ScriptDirectory.from_config(CONFIG).walk_revisions()][::-1]

# Set anew by a migration, so that the next sync reads all tasks again.
READ_AGAIN = ("projects", "synced_until")
ROWS = 3  # in each table

Contents = dict[str, list[dict[str, Any]]]


@pytest.fixture
def database(state_url: str) -> Iterator[Database]:
    """An empty database."""
    database = Database(state_url)
    yield database
    database.engine.dispose()


@contextmanager
def migrating(database: Database) -> Iterator[None]:
    """Have Alembic's commands work on a database, in one transaction as `Database.migrate` has."""
    with database.engine.connect().execution_options(write=True) as connection, connection.begin():
        CONFIG.attributes["connection"] = connection
        yield


def upgrade(database: Database, revision: str) -> None:
    with migrating(database):
        command.upgrade(CONFIG, revision)


def downgrade(database: Database, revision: str) -> None:
    with migrating(database):
        command.downgrade(CONFIG, revision)


def tables(database: Database) -> list[sa.Table]:
    """The tables that there are, parents before children."""
    there = sa.MetaData()
    there.reflect(database.engine)
    return [table for table in there.sorted_tables if table.name != "alembic_version"]


def schema(database: Database) -> dict[str, Any]:
    """Columns, indexes and foreign keys of each table."""
    look = sa.inspect(database.engine)
    return {
        name: (
            [(c["name"], str(c["type"]), c["nullable"]) for c in look.get_columns(name)],
            sorted((i["name"], tuple(i["column_names"])) for i in look.get_indexes(name)),
            [
                (k["constrained_columns"], k["referred_table"], k["options"])
                for k in look.get_foreign_keys(name)
            ],
        )
        for name in sorted(look.get_table_names())
    }


def a_value(column: sa.Column[Any], number: int) -> Any:
    if column.foreign_keys or column.primary_key:
        return number if isinstance(column.type, sa.Integer) else str(number)
    match column.type:
        case sa.Boolean():
            return number % 2 == 0
        case sa.Integer():
            return 10 * number
        case sa.Float():
            return number / 8
        case sa.DateTime():
            return datetime(2026, 1, number, 12, 30, tzinfo=UTC)
        case sa.JSON():
            return {"é": [number, None, "x"]}
        case _:
            return f"{column.name} {number} – é"


def fill(database: Database) -> None:
    """Put rows into every table, a value in every column."""
    with database.engine.connect().execution_options(write=True) as connection, connection.begin():
        for table in tables(database):
            rows = [{c.name: a_value(c, number) for c in table.columns} for number in range(1, ROWS + 1)]
            connection.execute(table.insert(), rows)


def contents(database: Database) -> Contents:
    with database.engine.connect() as connection:
        return {
            table.name: [
                dict(row)
                for row in connection.execute(table.select().order_by(*table.primary_key.columns)).mappings()
            ]
            for table in tables(database)
        }


def assert_kept(before: Contents, after: Contents) -> None:
    """Every row is there, and in each column that both have what it was."""
    assert before.keys() <= after.keys()
    for name, rows in before.items():
        assert len(after[name]) == len(rows) == ROWS, name
        for old, new in zip(rows, after[name], strict=True):
            for column in old.keys() & new.keys():
                if (name, column) != READ_AGAIN or new[column] is not None:
                    assert new[column] == old[column], (name, column)


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_filled_store_goes_to_the_newest_schema_and_back(database: Database, revision: str) -> None:
    upgrade(database, revision)
    old_schema = schema(database)
    fill(database)
    before = contents(database)
    database.migrate()
    newest = contents(database)
    assert_kept(before, newest)
    with database.read() as session:  # what the program makes of them
        assert [
            len(session.scalars(sa.select(one)).all()) for one in (Project, Task, Event, Round, QueueEntry)
        ] == [ROWS] * 5
    new_schema = schema(database)
    downgrade(database, revision)
    assert schema(database) == old_schema
    assert_kept(before, contents(database))
    database.migrate()
    assert schema(database) == new_schema
    assert_kept(before, contents(database))


def test_a_process_works_on_with_the_schema_of_a_newer_one(database: Database) -> None:
    """By the rule for migrations, they only add: what has a default, or may be empty."""
    database.migrate()
    with database.engine.connect().execution_options(write=True) as connection, connection.begin():
        for table in Base.metadata.sorted_tables:
            connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN newer TEXT NOT NULL DEFAULT 'x'")
        connection.exec_driver_sql("CREATE TABLE newer (id INTEGER PRIMARY KEY)")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    restarted = Database(database.engine.url.render_as_string(hide_password=False))
    restarted.migrate()
    with restarted.write() as session:
        session.add(Project(id=1))
        session.flush()
        session.add(Task(project_id=1, id=5, source="a.png"))
        session.add(Round(id=7, project_id=1, number=0, version="round-0", reason="a test", step="sync"))
        session.flush()
        session.add(QueueEntry(round_id=7, rank=0, task_id=5, reason="typical"))
    with restarted.read() as session:
        assert session.get_one(Task, (1, 5)).source == "a.png"
        assert session.get_one(QueueEntry, (7, 0)).task_id == 5
    with restarted.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == "9999"
    restarted.engine.dispose()
