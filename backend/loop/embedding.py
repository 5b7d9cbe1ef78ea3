"""The second step of a round: embeddings for the images that have none yet.

A round embeds what it needs at once: the labeled images and, of a pool that is new to us, a random sample.
The rest of a large pool is embedded in the background, and each round ranks what is embedded by then.
"""

import logging
from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from sqlalchemy import ColumnElement, func, select, tuple_, update

from backend.deployment import Deployment
from backend.engine import local, ray
from backend.engine.work import Batch, Work, reason_of
from backend.labelstudio.media import MediaError
from backend.learners.embedding import Embedder
from backend.loop.embedders import (
    embedder_folder,
    embedder_for,
    embedder_name,
    known_embedder,
    learner_dimensions,
    usable_images,
)
from backend.loop.images import LOADERS, Source, in_random_order, small_image, sources_of
from backend.loop.rounds import latest_round
from backend.settings import LoopSettings
from backend.store.database import ROWS_PER_STATEMENT
from backend.store.ids import read_ids
from backend.store.leases import HeldLease, lease
from backend.store.tables import Project, ProjectState, Task

log = logging.getLogger(__name__)

FIRST_SAMPLE = 300  # images that the first window is chosen from
AT_ONCE = 300  # images that a round embeds itself; more are left to the background
FLUSH = 500  # embeddings written at a time
NOT_WORTH_IT = 1_000  # embeddings of tasks that are gone
EMBEDDED_HERE, EMBEDDED_ON_RAY = 2_000, 100_000  # images between looks whether the loop still runs
WORTH_A_CLUSTER = 300  # images; fewer are done here before an actor has started


def embed_for_round(
    deployment: Deployment, project_id: int, settings: LoopSettings
) -> dict[str, str | int | None]:
    """Embed what a round needs now; returns what the round is to remember: embedder and images left."""
    if not usable_images(deployment, project_id):
        return {"embedder": None, "embedder_folder": None, "to_embed": 0}  # no image to train one on either
    folder = embedder_folder(deployment, project_id)
    embedder = embedder_for(deployment, project_id, settings, folder)
    chosen = Task.project_id == project_id
    with deployment.database.read() as session:
        labeled = set(session.scalars(select(Task.id).where(chosen, Task.target.is_not(None))))
        embedded = session.scalar(select(func.count()).where(chosen, Task.embedded == embedder.name))
    missing = _missing(deployment, project_id, embedder.name)
    needed = [task_id for task_id in missing if task_id in labeled]
    pool = [task_id for task_id in missing if task_id not in labeled]
    if not embedded:
        needed += pool[:FIRST_SAMPLE]
    elif len(pool) <= AT_ONCE:
        needed += pool
    _store(
        deployment,
        project_id,
        embedder.name,
        local.map_images(
            sources_of(deployment, project_id, needed), embedding_work(deployment, embedder), loaders=LOADERS
        ),
    )
    return {
        "embedder": embedder.name,
        "embedder_folder": folder,
        "learner_dimensions": learner_dimensions(embedder, settings),
        "to_embed": len(missing) - len(needed),
    }


def embed_pool(deployment: Deployment, project_id: int, settings: LoopSettings) -> bool:
    """Embed all images that have no embedding yet; one worker at a time does it for a project.

    Returns whether there is something new for a round to rank: not where all that is missing is on hosts that are
    down. Those are tried again when this is called again.
    """
    with lease(deployment.database, f"embed:{project_id}") as held:
        if held is None:
            return False
        folder = embedder_folder(deployment, project_id)
        embedder = embedder_for(deployment, project_id, settings, folder)
        tried: set[int] = set()  # an image whose host is down for the moment is left for later
        stored = 0
        while True:
            with deployment.database.read() as session:
                project = session.get(Project, project_id)
            missing = [i for i in _missing(deployment, project_id, embedder.name).tolist() if i not in tried]
            if not missing or project is None or project.state != ProjectState.ACTIVE:
                return stored > 0
            on_ray = deployment.settings.ray_address and len(missing) > WORTH_A_CLUSTER
            chunk = missing[: EMBEDDED_ON_RAY if on_ray else EMBEDDED_HERE]
            sources = sources_of(deployment, project_id, chunk)
            if on_ray:
                make = partial(_load_work, deployment, project_id, embedder_name(settings), folder)
                address = deployment.settings.ray_address
                batches = ray.map_images(sources, make, address=address, loaders=LOADERS)
            else:
                batches = local.map_images(sources, embedding_work(deployment, embedder), loaders=LOADERS)
            stored += _store(deployment, project_id, embedder.name, batches, held)
            tried.update(chunk)


def images_to_embed(deployment: Deployment, project_id: int) -> int:
    """How many images lack the embedding that the newest round works with."""
    latest = latest_round(deployment, project_id)
    embedder = latest.facts.get("embedder") if latest else None
    if embedder is None:
        return 0
    with deployment.database.read() as session:
        return (
            session.scalar(select(func.count()).where(Task.project_id == project_id, _lacks(embedder))) or 0
        )


def note_lost_embeddings(deployment: Deployment, project_id: int, embedder: str) -> int:
    """Have the images embedded again whose embeddings are no longer stored; returns how many they are.

    Embeddings of tasks that are gone are forgotten once they are most of what is stored.
    """
    stored = deployment.embeddings.task_ids(project_id, embedder)
    with deployment.database.read() as session:
        chosen = select(Task.id).where(Task.project_id == project_id, Task.embedded == embedder)
        noted = read_ids(session, chosen)
    if deployment.embeddings.rows(project_id, embedder) > 2 * len(noted) + NOT_WORTH_IT:
        deployment.embeddings.keep_only(project_id, embedder, noted)
    lost = np.setdiff1d(noted, stored, assume_unique=True).tolist()
    for start in range(0, len(lost), FLUSH):
        again = (Task.project_id == project_id) & Task.id.in_(lost[start : start + FLUSH])
        with deployment.database.write() as session:
            session.execute(update(Task).where(again).values(embedded=None))
    if lost:
        log.warning("the embeddings of %d images were lost; they are embedded again", len(lost))
    return len(lost)


def forget_embeddings(deployment: Deployment, project_id: int, embedder: str) -> None:
    """Have all images embedded again, because the table that holds the embeddings is damaged."""
    deployment.embeddings.set_aside(project_id, embedder)
    note_lost_embeddings(deployment, project_id, embedder)


def _lacks(embedder: str) -> ColumnElement[bool]:
    """Condition on `Task`: its image has no embedding by `embedder` yet."""
    return Task.broken.is_(None) & Task.embedded.is_distinct_from(embedder)


def _missing(deployment: Deployment, project_id: int, embedder: str) -> NDArray[np.int64]:
    """Ids of the tasks without an embedding by `embedder`, in the order in which they are to be embedded."""
    return in_random_order(deployment, project_id, _lacks(embedder))


def embedding_work(
    deployment: Deployment, embedder: Embedder, failures: tuple[type[Exception], ...] = (MediaError,)
) -> Work[Source, Image, NDArray[np.float32]]:
    """Fetch and embed. failures: see `Work`."""

    def load(source: Source) -> Image:
        return small_image(deployment, source, embedder.size)

    return Work(load, embedder.embed, failures)


def _load_work(
    deployment: Deployment, project_id: int, name: str, folder: str
) -> Work[Source, Image, NDArray[np.float32]]:
    """The work, elsewhere than where the embedder was made."""
    return embedding_work(deployment, known_embedder(deployment, project_id, name, folder))


def _store(
    deployment: Deployment,
    project_id: int,
    embedder: str,
    batches: Iterable[Batch[Source, NDArray[np.float32]]],
    held: HeldLease | None = None,
) -> int:
    """Store embeddings as they are computed, many at a time; an image whose host is down is left for later.

    Returns how many images were embedded or found broken.
    """
    noted = 0
    done: list[Source] = []
    vectors: list[NDArray[np.float32]] = []
    broken: list[tuple[int, str]] = []

    def flush() -> None:
        nonlocal noted
        if held is not None:
            held.check()
        if done:
            ids = [task_id for task_id, _ in done]
            deployment.embeddings.append(project_id, embedder, ids, np.concatenate(vectors))
        _note(deployment, project_id, embedder, done, broken)
        noted += len(done) + len(broken)
        for gathered in (done, vectors, broken):
            gathered.clear()

    for batch in batches:
        if batch.outputs is not None:
            done += batch.items
            vectors.append(batch.outputs)
        broken += [
            (task_id, reason_of(error))
            for (task_id, _), error in batch.broken
            if not (isinstance(error, MediaError) and error.temporary)
        ]
        if len(done) + len(broken) >= FLUSH:
            flush()
    flush()
    return noted


def _note(
    deployment: Deployment,
    project_id: int,
    embedder: str,
    done: Sequence[Source],
    broken: Sequence[tuple[int, str]],
) -> None:
    """Note what is embedded and what is broken, unless the task's image changed meanwhile."""
    for start in range(0, len(done), ROWS_PER_STATEMENT):
        chosen = tuple_(Task.id, Task.source).in_(done[start : start + ROWS_PER_STATEMENT])
        with deployment.database.write() as session:
            session.execute(
                update(Task).where(Task.project_id == project_id, chosen).values(embedded=embedder),
                execution_options={"synchronize_session": False},
            )
    for task_id, reason in broken:
        note_broken(deployment, project_id, task_id, reason)


def note_broken(deployment: Deployment, project_id: int, task_id: int, reason: str) -> None:
    """Leave the task out until somebody mends its image; `reason` tells people what is wrong with it."""
    log.warning("task %d is left out: %s", task_id, reason)
    with deployment.database.write() as session:
        session.execute(
            update(Task).where(Task.project_id == project_id, Task.id == task_id).values(broken=reason)
        )
