"""What the deployment's processes share, and whether they run: database, queue of jobs, server, worker."""

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import redis
import sqlalchemy
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import SQLAlchemyError

from backend.deployment import Deployment
from backend.doctor.check import Check, Finding, broken, fine, warning
from backend.doctor.surroundings import data_folder
from backend.engine import ray
from backend.loop.registration import without_password
from backend.store.database import MIGRATIONS
from backend.store.leases import WORKER, present
from backend.store.storage import Storage, StorageUnavailable

AREA = "Processes"
SECONDS = 5.0  # for an answer
WRITTEN = "doctor-writes-this"
START = "Start `active-learning serve` and `active-learning worker`."


class ProcessChecks:
    """Whether the processes run. `has_state`: the database can be asked, once that was looked at."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.has_state = False

    def checks(self) -> Iterator[Check]:
        """In the order in which they are worth reading."""
        yield Check(AREA, "database", self.database)
        yield Check(AREA, "queue of jobs", self.job_queue)
        yield Check(AREA, "object storage", self.storage)
        yield Check(AREA, "Ray cluster", self.cluster)
        yield Check(AREA, "worker", self.worker)
        yield Check(AREA, "server", self.server)

    def database(self) -> Finding:
        """Whether it answers, and its schema is the one that this version works with."""
        url = self.deployment.settings.state_url
        remedy = (
            "Check DATABASE_URL and that it runs."
            if self.deployment.settings.database_url
            else "Check MODEL_DIR."
        )
        none_yet = warning("There is no state yet.", f"It is made by the first start. {START}")
        try:
            path = sqlalchemy.make_url(url).database
            if url.startswith("sqlite") and path and not Path(path).exists():
                return none_yet
            with self.deployment.database.engine.connect() as connection:
                at = MigrationContext.configure(connection).get_current_revision()
        except SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or type(error).__name__)
            return broken(
                f"The database cannot be used: {reason}.", f"{remedy} Labels are safe in Label Studio."
            )
        scripts = ScriptDirectory(str(MIGRATIONS))
        known = {script.revision for script in scripts.walk_revisions()}
        if at == scripts.get_current_head():
            self.has_state = True
            return fine(f"It answers, with the schema of this version ({at}).")
        if at is None:
            return none_yet
        if at in known:
            return warning(
                "Its schema is older than this version.", f"The next start brings it up to date. {START}"
            )
        return broken(
            f"Its schema ({at}) was made by a newer version than this one.",
            "Install that version here, too, and restart all processes.",
        )

    def job_queue(self) -> Finding:
        """Whether nudges to the worker can be left and found."""
        settings = self.deployment.settings
        if settings.redis_url:
            try:
                with closing(
                    redis.Redis.from_url(
                        settings.redis_url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS
                    )
                ) as client:
                    client.ping()
            except (redis.RedisError, ValueError) as error:
                return broken(
                    f"Redis cannot be used: {error}",
                    "Check REDIS_URL and that it runs. No label is lost meanwhile.",
                )
            return fine("Redis answers.")
        file = settings.model_dir / "jobs.db"
        if not file.exists():
            return fine("It is made by the first start, in MODEL_DIR.")
        try:
            with closing(
                sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=SECONDS)
            ) as jobs:
                (count,) = jobs.execute("SELECT count(*) FROM task").fetchone()
        except sqlite3.Error as error:
            return broken(
                f"{file} cannot be used: {error}.",
                "Stop server and worker, delete that file, and start them: what is to be done is in the database.",
            )
        return fine(f"It answers; {count} waiting.")

    def storage(self) -> Finding:
        """Whether embeddings and models can be kept where STORAGE_URL says."""
        url = self.deployment.settings.storage_url
        if not url:
            return fine("None: embeddings and models are in MODEL_DIR.")
        storage = Storage(url)
        if storage.is_local:
            return data_folder(Path(storage.url), "STORAGE_URL")
        try:
            with tempfile.NamedTemporaryFile() as file:
                storage.upload(Path(file.name), WRITTEN)
            storage.delete(WRITTEN)
        except StorageUnavailable as error:
            return broken(
                str(error),
                "Mend what it says, then look again; rounds go on by themselves, and no label is lost.",
            )
        return fine("It can be written to.")

    def cluster(self) -> Finding:
        """Whether the cluster of RAY_ADDRESS can be reached from here."""
        address = self.deployment.settings.ray_address
        if not address:
            return fine("None: the worker looks at all images itself.")
        try:
            ray.reach(address)
        except ray.ClusterUnavailable as error:
            return broken(f"{error}", "Start it (`ray start --head`), or correct or unset RAY_ADDRESS.")
        return fine("It can be reached.")

    def worker(self) -> Finding:
        """Whether one runs, anywhere: it renews a lease in the database."""
        remedy = "Start `active-learning worker`. Labels are kept meanwhile, and learned from when it runs."
        if not self.has_state:
            return broken("Without the database, none can run, nor be seen.", f"See the database. {remedy}")
        count = present(self.deployment.database, WORKER)
        if not count:
            return broken("No worker runs, so no round does.", remedy)
        return fine("One worker runs." if count == 1 else f"{count} workers run.")

    def server(self) -> Finding:
        """Whether ours answers where Label Studio is to call it."""
        settings = self.deployment.settings
        remedy = (
            f"Start `active-learning serve`, which listens on port {settings.port}, and set BACKEND_URL to where "
            "Label Studio reaches it."
        )
        try:
            shown = without_password(settings.backend_url)
            answer = httpx.get(f"{settings.backend_url}/health", timeout=SECONDS)
        except (ValueError, httpx.InvalidURL):
            return broken("BACKEND_URL is no URL.", "Write it like http://this-machine:9090.")
        except httpx.HTTPError as error:
            return broken(f"Nothing answers at BACKEND_URL, {shown} ({error}).", remedy)
        if not answer.is_success or '"ActiveLearning"' not in answer.text:
            return broken(
                f"Something else answers at BACKEND_URL, {shown} (HTTP {answer.status_code}).", remedy
            )
        return fine(f"It answers at {shown}.")
