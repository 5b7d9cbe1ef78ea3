"""Where the tests keep state and jobs: SQLite in MODEL_DIR or, with `--store postgresql`, PostgreSQL and Redis."""

import functools
import itertools
import tempfile
from pathlib import Path

import sqlalchemy

from tests.servers import PostgreSQL, Redis

Store = dict[str, str]
"""The settings that name it: DATABASE_URL and REDIS_URL."""

KINDS = ("sqlite", "postgresql")
chosen = "sqlite"  # pytest's option

SQLITE: Store = {"DATABASE_URL": "", "REDIS_URL": ""}


def new_store() -> Store:
    """An empty store of the chosen kind."""
    return servers().create() if chosen == "postgresql" else SQLITE


def drop(store: Store) -> None:
    """Delete it, where it lies in no folder of a test."""
    if store != SQLITE:
        servers().drop(store)


class Servers:
    """A PostgreSQL and a Redis, which hold many stores."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._postgresql = PostgreSQL(Path(self._folder.name))
        self._redis = Redis(Path(self._folder.name))
        self._numbers = itertools.count(1)
        url = self._postgresql.url.replace("postgresql", "postgresql+pg8000")
        self._engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")

    def create(self) -> Store:
        """An empty database, and a queue of jobs that no other store shares."""
        number = next(self._numbers)
        self._execute(f"CREATE DATABASE store_{number}")
        return {
            "DATABASE_URL": _sibling(self._postgresql.url, f"store_{number}"),
            "REDIS_URL": _sibling(self._redis.url, str(number)),
        }

    def drop(self, store: Store) -> None:
        """Delete its database, whoever is still connected; its jobs end with the server."""
        self._execute(f"DROP DATABASE {store['DATABASE_URL'].rpartition('/')[2]} WITH (FORCE)")

    def remove(self) -> None:
        """End both, and delete their data."""
        self._engine.dispose()
        self._redis.stop()
        self._postgresql.remove()
        self._folder.cleanup()

    def _execute(self, statement: str) -> None:
        with self._engine.connect() as connection:
            connection.exec_driver_sql(statement)


@functools.cache
def servers() -> Servers:
    """Those of this process, started when first needed."""
    return Servers()


def remove_servers() -> None:
    """End them, if they were started."""
    if servers.cache_info().currsize:
        servers().remove()
        servers.cache_clear()


def _sibling(url: str, database: str) -> str:
    return f"{url.rpartition('/')[0]}/{database}"
