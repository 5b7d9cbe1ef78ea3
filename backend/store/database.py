"""The state database: sessions that read, sessions that write, and its schema brought up to date."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoFreeConnection
from sqlalchemy.orm import Session

from backend.store.tables import Base

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"
ROWS_PER_STATEMENT = 500  # SQLite takes a bounded number of bound variables
CONNECTED_AHEAD = 4  # of each web process; it may come to 20 and more
PATIENCE = (
    60.0  # seconds that PostgreSQL may be silent, else a machine that is gone would be waited for for ever
)
AWAY = "The database cannot be used for now. No label is lost: they are in Label Studio, and are found when it is back."
# How PostgreSQL's codes begin where trying again helps: it lacks memory, disk or connections; transactions are in each
# other's way; somebody holds a lock; it is told to stop, or still starts.
PASSING = ("53", "40001", "40P01", "55P03", "57P0")


class Database:
    """State on SQLite (WAL) or PostgreSQL.

    Many processes and threads may use the same database. On SQLite a writer takes the lock when its
    transaction begins, so that it waits for its turn instead of failing half-way.
    """

    def __init__(self, url: str) -> None:
        parsed = sqlalchemy.make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+pg8000")
        self.is_sqlite = parsed.drivername.startswith("sqlite")
        if self.is_sqlite and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        self.engine = sqlalchemy.create_engine(
            parsed,
            pool_size=20,
            pool_pre_ping=not self.is_sqlite,  # connections do not outlive a restart of the server
            connect_args={} if self.is_sqlite else {"timeout": PATIENCE},
            hide_parameters=True,  # of a statement that fails: they are secrets, too
        )
        self._writer = self.engine.execution_options(write=True)
        if self.is_sqlite:
            _prepare_sqlite(self.engine)

    def connect_ahead(self) -> None:
        """Open some connections before they are needed: to open one takes longer than most answers."""
        with ExitStack() as stack:
            for _ in range(CONNECTED_AHEAD):
                stack.enter_context(self.engine.connect())

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that changes nothing; its objects stay usable after it."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that commits at the end of the block, or rolls back when it raises."""
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def migrate(self) -> None:
        """Bring the schema up to date; safe when several processes start at once. A newer schema is left as it is."""
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with self._writer.connect() as connection, connection.begin():
            if not self.is_sqlite:
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7263114)")
            current = MigrationContext.configure(connection).get_current_revision()
            known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
            if current is not None and current not in known:
                # During an upgrade; migrations only add, so that an older version can go on.
                log.warning(
                    "the database has the schema of a newer version (%s): upgrade this process, too", current
                )
                return
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def is_outage(error: BaseException) -> bool:
    """Whether an error says that the database cannot be used for now, as while its server restarts."""
    if isinstance(error, OperationalError | InterfaceError | NoFreeConnection):
        return True
    return isinstance(error, DatabaseError) and (
        error.connection_invalidated or _field(error.orig, "C").startswith(PASSING)
    )


def reason_of(error: BaseException) -> str:
    """What the database, or whoever was to reach it, says of an error."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return _field(original, "M") or str(original)


def _field(error: BaseException | None, name: str) -> str:
    """Of PostgreSQL's message: C, its code, or M, what it says. pg8000 raises the same for all, with these fields."""
    fields = error.args[0] if error and error.args else None
    return str(fields.get(name, "")) if isinstance(fields, dict) else ""


def upsert(session: Session, table: type[Base], rows: Iterable[Mapping[str, Any]]) -> None:
    """Insert rows, or update the given columns where the primary key exists. All rows have the same keys."""
    pending = list(rows)
    if not pending:
        return
    dialect = session.get_bind().dialect.name
    insert = sqlite.insert if dialect == "sqlite" else postgresql.insert
    keys = [column.name for column in sqlalchemy.inspect(table).primary_key]
    changed = [name for name in pending[0] if name not in keys]
    for start in range(0, len(pending), ROWS_PER_STATEMENT):
        statement = insert(table).values(pending[start : start + ROWS_PER_STATEMENT])
        session.execute(
            statement.on_conflict_do_update(
                index_elements=keys, set_={name: statement.excluded[name] for name in changed}
            )
        )


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver would begin transactions by its own rules
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=30000", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
