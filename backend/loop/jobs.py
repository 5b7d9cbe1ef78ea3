"""The jobs that workers do. A message is only a nudge: what is to be done is read from the store.

A nudge that is lost is made good within a minute by `reconcile`; one that comes twice does no harm.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from huey import RedisHuey, SqliteHuey, crontab
from huey.api import Huey, TaskWrapper
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import select

from backend.deployment import Deployment
from backend.engine.ray import ClusterUnavailable
from backend.labelstudio.client import LabelStudioError
from backend.labelstudio.media import MediaUnavailable
from backend.logs import about
from backend.loop.advancing import TRY_AGAIN_SECONDS, advance, project_settings
from backend.loop.embedding import embed_pool
from backend.loop.events import START_TRAINING, Outcome, record
from backend.loop.messages import JsonMessages
from backend.loop.preview import ask_for_preview, make_preview
from backend.loop.projection import map_outdated, update_map
from backend.loop.reconciliation import notice_missed_changes
from backend.loop.review import review, to_review
from backend.store.database import is_outage
from backend.store.embeddings import DamagedEmbeddings
from backend.store.leases import WORKER, LeaseLost, give_back_all, presence
from backend.store.storage import StorageUnavailable
from backend.store.tables import Project, ProjectState

log = logging.getLogger(__name__)

WORKERS = 4  # threads: rounds and topping up go on while a pool is being embedded
IN_BACKGROUND = 2  # of them, at most, that embed a pool or lay out a map
CLAIM = 1.0  # seconds in which a thread finds out when its nudge is to come
REDIS_PATIENCE = 3.0  # seconds that Redis may be silent; a nudge that is lost is made good


class Jobs:
    """The queue of jobs of a deployment: the web processes nudge, the workers act."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.huey = _create_huey(deployment)
        self._advance = self._task("advance", self._run_advance)
        self._embed = self._task("embed", self._run_embed)
        self._review = self._task("review", self._run_review)
        self._preview = self._task("preview", self._run_preview)
        self._map = self._task("map", self._run_map)
        self._reconcile = self.huey.periodic_task(crontab(), name="reconcile")(self.reconcile)
        self._nudged: dict[int, float] = {}
        self._debounced: dict[int, float] = {}
        self._nudging = threading.Lock()
        self._background = threading.BoundedSemaphore(IN_BACKGROUND)

    def _task(self, name: str, job: Callable[[int], None]) -> TaskWrapper:
        """The job as huey's, in a thread that ends with it.

        OpenMP keeps a thread's helpers for as long as the thread lives. Those of all of huey's threads are more than
        there may be cores, and helpers then sleep whenever they wait for one another (libgomp's throttled spinning):
        training took twice as long.
        """

        def run(project_id: int) -> None:
            with ThreadPoolExecutor(1, thread_name_prefix=name) as own:
                own.submit(job, project_id).result()

        return self.huey.task(name=name)(run)

    def nudge(self, project_id: int, delay: float = 0.0) -> None:
        """Have a worker look at a project, after `delay` seconds; nudges that would come sooner anyway count.

        Where the queue of jobs cannot be written, the next `reconcile` makes good for it.
        """
        with self._nudging:
            at = time.monotonic() + delay
            planned = self._nudged.get(project_id, 0.0)
            if delay and time.monotonic() < planned <= at:
                return
            self._nudged[project_id] = at
        try:
            self._advance.schedule(args=(project_id,), delay=delay) if delay else self._advance(project_id)
        except Exception as error:
            log.warning("no worker could be nudged; one looks by itself within a minute: %r", error)

    def take_event(
        self, action: str, project_id: int, payload: Mapping[str, Any], secret: str | None = None
    ) -> Outcome:
        """Commit an event from Label Studio, see `record`, and nudge a worker where it calls for work."""
        outcome = record(self.deployment.database, action, project_id, payload, secret)
        if outcome != Outcome.RECORDED:
            return outcome
        if action == START_TRAINING:
            self.nudge(project_id)
        elif self._claims_nudge(project_id):
            settings = project_settings(self.deployment, project_id)
            delay = settings.debounce_seconds if settings else 0.0
            self._debounced[project_id] = time.monotonic() + delay
            self.nudge(project_id, delay)
        return outcome

    def _claims_nudge(self, project_id: int) -> bool:
        """Whether this thread is to nudge; False: a nudge that comes later is planned, or another thread plans it."""
        with self._nudging:
            at = time.monotonic()
            if at < self._debounced.get(project_id, 0.0):
                return False
            self._debounced[project_id] = at + CLAIM
            return True

    def preview(self, project_id: int, extra_params: Mapping[str, Any]) -> None:
        """Have a worker rank a project's pool as it would be under other settings."""
        ask_for_preview(self.deployment, project_id, extra_params)
        self._preview(project_id)

    def reconcile(self) -> None:
        """Look for what Label Studio changed without telling us, and nudge every project."""
        with _outage_passes("looking for missed changes"):
            for project_id in self._live_projects():
                with about(project=project_id):
                    try:
                        notice_missed_changes(self.deployment, project_id)
                    except Exception as error:
                        if is_outage(error):
                            raise
                        log.exception("could not look for missed changes")
                    self.nudge(project_id)

    def reconcile_soon(self) -> None:
        """Have a worker reconcile: whoever comes back has missed what Label Studio told meanwhile."""
        try:
            self._reconcile()
        except Exception as error:
            log.warning("no worker could be told of missed changes; one looks within a minute: %r", error)

    def _live_projects(self) -> list[int]:
        live = (ProjectState.ACTIVE, ProjectState.CONNECTING, ProjectState.DISCONNECTING)
        with self.deployment.database.read() as session:
            return list(session.scalars(select(Project.id).where(Project.state.in_(live))))

    def run_worker(self) -> None:
        """Work until the process is told to stop; after SIGTERM, the caller is to end it by `os._exit`.

        Threads are then still at work, perhaps in native code, which aborts when Python ends under it. What they
        were doing is taken up by another worker, or at the next start.
        """
        for project_id in self._live_projects():
            self.nudge(project_id)  # what a killed worker left behind goes on at once
        self.reconcile_soon()
        consumer = self.huey.create_consumer(
            workers=WORKERS, worker_type="thread", initial_delay=0.05, max_delay=0.5, check_worker_health=True
        )
        with presence(self.deployment.database, WORKER):
            consumer.run()
        with _outage_passes("giving back the leases"):
            give_back_all(self.deployment.database)

    def _run_advance(self, project_id: int) -> None:
        with about(project=project_id), _outage_passes("the loop", lambda: self._try_again(project_id)):
            try:
                advance(self.deployment, project_id, self.nudge, self._embed)
                if to_review(self.deployment, project_id):
                    self._review(project_id)
                if map_outdated(self.deployment, project_id):
                    self._map(project_id)
            except (LeaseLost, StorageUnavailable) as error:
                log.warning("%s", error)

    def _try_again(self, project_id: int) -> None:
        self.nudge(project_id, TRY_AGAIN_SECONDS)

    def _run_preview(self, project_id: int) -> None:
        with about(project=project_id), _outage_passes("the preview"):
            make_preview(self.deployment, project_id)

    @contextmanager
    def _in_background(self) -> Iterator[bool]:
        """Whether a thread may take up what may last for hours; if not, the minute's `reconcile` asks for it again."""
        free = self._background.acquire(blocking=False)
        try:
            yield free
        finally:
            if free:
                self._background.release()

    def _run_embed(self, project_id: int) -> None:
        with about(project=project_id), _outage_passes("embedding the pool"), self._in_background() as free:
            if not free:
                return
            try:
                settings = project_settings(self.deployment, project_id)
                if settings is not None and embed_pool(self.deployment, project_id, settings):
                    self.nudge(project_id)
            except (
                LabelStudioError,
                MediaUnavailable,
                StorageUnavailable,
                ClusterUnavailable,
                LeaseLost,
            ) as error:
                log.warning("embedding the pool pauses: %s", error)

    def _run_map(self, project_id: int) -> None:
        with about(project=project_id), _outage_passes("the map"), self._in_background() as free:
            if not free:
                return
            try:
                update_map(self.deployment, project_id)
            except (LeaseLost, DamagedEmbeddings, StorageUnavailable) as error:
                log.warning("the map is not up to date: %s", error)

    def _run_review(self, project_id: int) -> None:
        with about(project=project_id), _outage_passes("the review"):
            try:
                review(self.deployment, project_id)
            except (LeaseLost, StorageUnavailable) as error:
                log.warning("%s", error)


@contextmanager
def _outage_passes(what: str, afterwards: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Let `what` wait while the database is away, as while its server restarts, and then do `afterwards`."""
    try:
        yield
    except Exception as error:
        if not is_outage(error):
            raise
        log.warning("%s waits, for the database cannot be used: %s", what, error)
        afterwards()


def _create_huey(deployment: Deployment) -> Huey:
    if deployment.settings.redis_url:
        redis = Redis.from_url(
            deployment.settings.redis_url,
            socket_timeout=REDIS_PATIENCE,
            socket_connect_timeout=REDIS_PATIENCE,
            retry=Retry(
                NoBackoff(), 0
            ),  # somebody waits for a webhook's answer; the workers try again anyway
        )
        return RedisHuey(
            "active-learning", connection_pool=redis.connection_pool, results=False, serializer=JsonMessages()
        )
    return SqliteHuey(
        "active-learning",
        filename=str(deployment.settings.model_dir / "jobs.db"),
        results=False,
        serializer=JsonMessages(),
    )
