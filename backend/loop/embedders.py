"""Which embedder a project's images are embedded with: loaded, or trained on them where it has to be."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL.Image import Image
from sqlalchemy import func, select

from backend.deployment import Deployment
from backend.labelstudio.media import MediaError
from backend.learners.embedding import SELF_SUPERVISED, SEPARATOR, Embedder, JoinedEmbedder, load_embedder
from backend.learners.self_supervised import SIZE, SelfSupervisedEmbedder
from backend.learners.weights import DamagedWeights
from backend.loop.images import LOADERS, Source, in_random_order, small_image, sources_of
from backend.settings import LoopSettings
from backend.store.artifacts import project_artifacts
from backend.store.tables import Round, Task

TRAINING_IMAGES = 1_000  # that an embedder trained on the project's own images sees
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
        deployment, project_id, embedder_name(settings), folder, lambda: _sample(deployment, project_id)
    )


def embedder_name(settings: LoopSettings) -> str:
    """As the settings name it, before it is known what "auto" is."""
    return SEPARATOR.join(filter(None, [settings.embedding, settings.selection_embedding]))


def learner_columns(facts: Mapping[str, Any]) -> slice:
    """The columns of a round's embeddings that the learner is trained on."""
    return slice(facts.get("learner_dimensions"))


def selection_columns(facts: Mapping[str, Any]) -> slice:
    """The columns of a round's embeddings that the strategy is given."""
    return slice(facts.get("learner_dimensions"), None)


def learner_dimensions(embedder: Embedder, settings: LoopSettings) -> int | None:
    """How many columns come before those of the selection's own embedding; None where it has none."""
    if not settings.selection_embedding or not isinstance(embedder, JoinedEmbedder):
        return None
    parts = embedder.parts[: settings.embedding.count(SEPARATOR) + 1]
    return sum(part.dimension for part in parts)


def embedder_folder(deployment: Deployment, project_id: int) -> str:
    """Where, among the project's artifacts, an embedder trained on its images is kept; another as the pool grows."""
    count = usable_images(deployment, project_id)
    return f"embedder-{sum(count >= size for size in POOL_SIZES)}"


def usable_images(deployment: Deployment, project_id: int) -> int:
    """How many tasks have an image, as far as is known."""
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
    embedder = known_embedder(deployment, learned.project_id, SEPARATOR.join(parts), folder)
    if embedder.name != name:
        raise DamagedWeights(f"the embedder {name} of round {learned.number} is no longer there")
    return embedder


def known_embedder(deployment: Deployment, project_id: int, name: str, folder: str) -> Embedder:
    """The embedder of that name, where nothing has to be trained. name: see `embedder_name`."""
    return _load(deployment, project_id, name, folder, list)


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
    ids = in_random_order(deployment, project_id, Task.broken.is_(None))[:TRAINING_IMAGES]

    def load(source: Source) -> Image | None:
        try:
            return small_image(deployment, source, SIZE)
        except MediaError:
            return None  # the embedding step tells about it

    with ThreadPoolExecutor(LOADERS) as pool:
        loaded = pool.map(load, sources_of(deployment, project_id, ids))
        return [image for image in loaded if image is not None]
