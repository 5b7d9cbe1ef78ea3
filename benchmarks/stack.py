"""What docker-compose.yml runs: Label Studio, the server and a worker, on one PostgreSQL, and a Redis."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import label_studio_sdk
from sqlalchemy import create_engine, select, text

from backend.demo.label_studio import LabelStudioServer
from backend.demo.project import LABEL_CONFIG, create_project
from backend.labelstudio.client import BATCHED_IMPORT
from backend.store.database import Database
from backend.store.tables import Round
from tests.end_to_end.running_loop import RunningLoop
from tests.servers import PostgreSQL, Redis

IMPORTED_AT_ONCE = 5_000  # tasks
KEPT = "kept_"  # begins the name of a table that keeps what another one held


@contextmanager
def running_stack() -> Iterator[tuple[RunningLoop, Path]]:
    """A backend that is not started yet, and the folder of images that its Label Studio may serve.

    PostgreSQL waits for the disk at each commit, as it does where people work.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgresql = PostgreSQL(folder, durable=True)
        stack.callback(postgresql.remove)
        redis = Redis(folder)
        stack.callback(redis.stop)
        _create_database(postgresql.url, "active_learning")
        at = urlsplit(postgresql.url)
        settings = {
            "DJANGO_DB": "default",
            "POSTGRE_HOST": str(at.hostname),
            "POSTGRE_PORT": str(at.port),
            "POSTGRE_USER": str(at.username),
            "POSTGRE_NAME": at.path[1:],
        }
        server = LabelStudioServer(
            folder / "label-studio",
            local_files=folder / "images",
            settings={f"LABEL_STUDIO_{name}": value for name, value in settings.items()}
            | {BATCHED_IMPORT: "true"},
        )
        stack.enter_context(server)
        database_url = postgresql.url.removesuffix(at.path) + "/active_learning"
        loop = RunningLoop.on(server, folder / "backend", DATABASE_URL=database_url, REDIS_URL=redis.url)
        stack.callback(loop.processes.stop)
        yield loop, folder / "images" / "digits"


def make_project(loop: RunningLoop, folder: Path, files: Sequence[str]) -> int:
    """A project of digits with one task for each of the files, some at a time; a file may come many times."""
    server, first = loop.label_studio, files[:IMPORTED_AT_ONCE]
    project_id = create_project(server.url, server.api_key, "Benchmark", LABEL_CONFIG, folder, first)
    client = label_studio_sdk.LabelStudio(base_url=server.url, api_key=server.api_key, timeout=600)
    for start in range(IMPORTED_AT_ONCE, len(files), IMPORTED_AT_ONCE):
        chunk = files[start : start + IMPORTED_AT_ONCE]
        tasks = [{"image": f"/data/local-files/?d={folder.name}/{name}"} for name in chunk]
        client.projects.import_tasks(id=project_id, request=tasks)
    return project_id


def keep(database: Database, table: str) -> None:
    """Keep every row that is ever written to a table, and when, in `kept_…`, even when the backend deletes it.

    A trigger copies a row in the transaction that writes it, so there is a copy of what was committed and of nothing
    else. It makes the measured writes a little dearer.
    """
    with database.write() as session:
        for statement in (
            f"CREATE TABLE {KEPT}{table} (LIKE {table})",
            f"ALTER TABLE {KEPT}{table} ADD COLUMN kept_at timestamptz",
            f"CREATE FUNCTION {KEPT}{table}() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN INSERT INTO {KEPT}{table} SELECT NEW.*, clock_timestamp(); RETURN NULL; END $$",
            f"CREATE TRIGGER {KEPT}{table} AFTER INSERT OR UPDATE ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION {KEPT}{table}()",
        ):
            session.execute(text(statement))


def was_in_the_queue_before(
    database: Database, project_id: int, task_id: int, asked: float, answered: float
) -> bool:
    """Whether the queue was flipped while an annotator's request ran, and the task was in the one before.

    Label Studio then has chosen the task by the old queue, and shows the predictions of the new one: none. The flip
    comes between the last import of the new queue and the round's note that it is published, which are seconds apart
    where the worker is killed between them. asked, answered: Unix time. Needs what `keep` kept of the table `queue`.
    """
    published = Round.project_id == project_id, Round.published_at.is_not(None)
    entry = text(f"SELECT 1 FROM {KEPT}queue WHERE round_id = :round AND task_id = :task AND published")
    imported = text(
        f"SELECT max(kept_at) FROM {KEPT}queue WHERE round_id = :round AND published AND kept_at <= :until"
    )
    with database.read() as session:
        rounds = session.execute(
            select(Round.id, Round.published_at).where(*published).order_by(Round.id)
        ).all()
        for before, after in pairwise(rounds):
            if after.published_at.timestamp() < asked:
                continue
            last = session.scalar(imported, {"round": after.id, "until": after.published_at})
            flipped = last is not None and last.timestamp() <= answered
            if flipped and session.scalar(entry, {"round": before.id, "task": task_id}):
                return True
    return False


def _create_database(url: str, name: str) -> None:
    engine = create_engine(url.replace("postgresql", "postgresql+pg8000"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
