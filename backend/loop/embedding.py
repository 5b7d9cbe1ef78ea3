"""The second step of a round: embeddings for the images that have none yet.

A round embeds what it needs at once: the labeled images and, of a pool that is new to us, a random sample.
The rest of a large pool is embedded in the background, and each round ranks what is embedded by then.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image, Resampling
from sqlalchemy import func, select, tuple_, update

from backend.deployment import Deployment
from backend.engine import local, ray
from backend.engine.work import Batch, Work, reason_of
from backend.labelstudio.media import MediaError
from backend.learners.embedding import SELF_SUPERVISED, SEPARATOR, Embedder, JoinedEmbedder, load_embedder
from backend.learners.self_supervised import SIZE, SelfSupervisedEmbedder
from backend.learners.weights import DamagedWeights
from backend.loop.audit import random_order
from backend.loop.rounds import latest_round
from backend.settings import LoopSettings
from backend.store.artifacts import project_artifacts
from backend.store.database import ROWS_PER_STATEMENT
from backend.store.ids import read_ids
from backend.store.leases import HeldLease, lease
from backend.store.tables import Project, ProjectState, Round, Task

log = logging.getLogger(__name__)

FIRST_SAMPLE = 300  # images that the first window is chosen from
AT_ONCE = 300  # images that a round embeds itself; more are left to the background
TRAINING_IMAGES = 1_000  # that an embedder trained on the project's own images sees
FLUSH = 500  # embeddings written at a time
NOT_WORTH_IT = 1_000  # embeddings of tasks that are gone
EMBEDDED_HERE, EMBEDDED_ON_RAY = 2_000, 100_000  # images between looks whether the loop still runs
WORTH_A_CLUSTER = 300  # images; fewer are done here before an actor has started
LOADERS = 8

Source = tuple[int, str]
"""A task's id, and where its image is."""

# An embedder trained on a handful of images is trained again when the pool has grown to the next of these.
POOL_SIZES = (32, 128, 512)

EMBEDDERS_KEPT = 8  # in memory, the last used ones

_loaded: dict[tuple[str, str], Embedder] = {}
_loading = threading.Lock()


def embedder_for(deployment: Deployment, project_id: int, settings: LoopSettings, folder: str) -> Embedder:
    """The embedder that a project's images are to be embedded with; trained now where it has to be.

    folder: see `embedder_folder`.

    Raises:
        BackboneUnavailable: the named backbone can be had neither from the hub's cache nor from the hub.
    """
    return _load(
        deployment, project_id, _embedder_name(settings), folder, lambda: _sample(deployment, project_id)
    )


def _embedder_name(settings: LoopSettings) -> str:
    """As the settings name it, before it is known what "auto" is."""
    return SEPARATOR.join(filter(None, [settings.embedding, settings.selection_embedding]))


def learner_columns(facts: Mapping[str, Any]) -> slice:
    """The columns of a round's embeddings that the learner is trained on."""
    return slice(facts.get("learner_dimensions"))


def selection_columns(facts: Mapping[str, Any]) -> slice:
    """The columns of a round's embeddings that the strategy is given."""
    return slice(facts.get("learner_dimensions"), None)


def _learner_dimensions(embedder: Embedder, settings: LoopSettings) -> int | None:
    """How many columns come before those of the selection's own embedding; None where it has none."""
    if not settings.selection_embedding or not isinstance(embedder, JoinedEmbedder):
        return None
    parts = embedder.parts[: settings.embedding.count(SEPARATOR) + 1]
    return sum(part.dimension for part in parts)


def embedder_folder(deployment: Deployment, project_id: int) -> str:
    """Where, among the project's artifacts, an embedder trained on its images is kept; another as the pool grows."""
    count = _usable_images(deployment, project_id)
    return f"embedder-{sum(count >= size for size in POOL_SIZES)}"


def _usable_images(deployment: Deployment, project_id: int) -> int:
    with deployment.database.read() as session:
        usable = select(func.count()).where(Task.project_id == project_id, Task.broken.is_(None))
        return session.scalar(usable) or 0


def embedder_of(deployment: Deployment, learned: Round) -> Embedder:
    """The embedder whose embeddings the learner of a round was trained on.

    Raises:
        DamagedWeights: it was lost, and another has taken its place.
        BackboneUnavailable: it was lost, or the backbone can no longer be had.
    """
    name, folder = learned.facts["embedder"], learned.facts["embedder_folder"]
    parts = [SELF_SUPERVISED if p.startswith(SELF_SUPERVISED) else p for p in name.split(SEPARATOR)]
    embedder = _load(deployment, learned.project_id, SEPARATOR.join(parts), folder, list)
    if embedder.name != name:
        raise DamagedWeights(f"the embedder {name} of round {learned.number} is no longer there")
    return embedder


def _load(
    deployment: Deployment, project_id: int, name: str, folder: str, sample: Callable[[], Sequence[Image]]
) -> Embedder:
    """Load an embedder once in a process, as long as it is in use and its file is there."""
    artifact = f"{project_artifacts(project_id)}/{folder}"
    key = (name, deployment.artifacts.address(artifact))
    with _loading:
        embedder = _loaded.pop(key, None)
        if embedder is None or not _is_stored(deployment, artifact, embedder):
            with deployment.artifacts.updating(artifact) as directory:
                embedder = load_embedder(name, directory, sample)
        _loaded[key] = embedder  # at the end: the last used
        if len(_loaded) > EMBEDDERS_KEPT:
            del _loaded[next(iter(_loaded))]
        return embedder


def _is_stored(deployment: Deployment, artifact: str, embedder: Embedder) -> bool:
    """Whether what was trained on a project's images is what other processes load, and the next start."""
    parts = embedder.parts if isinstance(embedder, JoinedEmbedder) else (embedder,)
    trained = [part.name for part in parts if isinstance(part, SelfSupervisedEmbedder)]
    try:
        stored = SelfSupervisedEmbedder.load(deployment.artifacts.reading(artifact)) if trained else None
    except (FileNotFoundError, DamagedWeights):
        return False
    return stored is None or set(trained) == {stored.name}


def _sample(deployment: Deployment, project_id: int) -> list[Image]:
    """Random images of a project, for an embedder to be trained on."""
    ids = _missing(deployment, project_id, None)[:TRAINING_IMAGES]

    def load(source: Source) -> Image | None:
        task_id, address = source
        try:
            return _small(deployment.media.image(address, task_id, at_least=SIZE), SIZE)
        except MediaError:
            return None  # the embedding step tells about it

    with ThreadPoolExecutor(LOADERS) as pool:
        return [
            image for image in pool.map(load, sources_of(deployment, project_id, ids)) if image is not None
        ]


def embed_for_round(
    deployment: Deployment, project_id: int, settings: LoopSettings
) -> dict[str, str | int | None]:
    """Embed what a round needs now; returns what the round is to remember: embedder and images left."""
    if not _usable_images(deployment, project_id):
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
        "learner_dimensions": _learner_dimensions(embedder, settings),
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
                make = partial(_load_work, deployment, project_id, _embedder_name(settings), folder)
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
    lacking = Task.broken.is_(None) & Task.embedded.is_distinct_from(embedder)
    with deployment.database.read() as session:
        return session.scalar(select(func.count()).where(Task.project_id == project_id, lacking)) or 0


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


def _missing(deployment: Deployment, project_id: int, embedder: str | None) -> NDArray[np.int64]:
    """Ids of the tasks without an embedding by `embedder`, or of all where it is None, in random order.

    Audit tasks, which have the lowest numbers, come last: a strategy ranks the others, as far as they are embedded.
    """
    query = select(Task.id).where(Task.project_id == project_id, Task.broken.is_(None))
    if embedder is not None:
        query = query.where(Task.embedded.is_distinct_from(embedder))
    with deployment.database.read() as session:
        ids = read_ids(session, query)
    return ids[np.argsort(-random_order(project_id, ids))]


def embedding_work(
    deployment: Deployment, embedder: Embedder, failures: tuple[type[Exception], ...] = (MediaError,)
) -> Work[Source, Image, NDArray[np.float32]]:
    """Fetch and embed. failures: see `Work`."""

    def load(source: Source) -> Image:
        task_id, address = source
        return _small(deployment.media.image(address, task_id, at_least=embedder.size), embedder.size)

    return Work(load, embedder.embed, failures)


def _small(image: Image, side: int) -> Image:
    """Not much larger than the square into which it will be squashed: many are held at a time."""
    size = (min(image.width, 2 * side), min(image.height, 2 * side))
    return image.resize(size, Resampling.BOX, reducing_gap=2.0)


def _load_work(
    deployment: Deployment, project_id: int, name: str, folder: str
) -> Work[Source, Image, NDArray[np.float32]]:
    """The work, elsewhere than where the embedder was made."""
    return embedding_work(deployment, _load(deployment, project_id, name, folder, list))


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


def sources_of(
    deployment: Deployment, project_id: int, task_ids: Sequence[int] | NDArray[np.int64]
) -> Iterator[Source]:
    """Where the images of tasks are, in the order of `task_ids`; a task that is gone is left out."""
    for start in range(0, len(task_ids), FLUSH):
        chosen = [int(task_id) for task_id in task_ids[start : start + FLUSH]]
        with deployment.database.read() as session:
            query = select(Task.id, Task.source).where(Task.project_id == project_id, Task.id.in_(chosen))
            found = {task.id: task.source for task in session.execute(query)}
        yield from ((task_id, found[task_id]) for task_id in chosen if task_id in found)


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
