"""What a round's learner says of tasks: from their stored embeddings, or by looking at their images."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from backend.deployment import Deployment
from backend.engine import local, ray
from backend.engine.work import Work, reason_of
from backend.labelstudio.control import Control
from backend.labelstudio.media import MediaError, MediaUnavailable
from backend.learners.learner import Answers, EmbeddingLearner, Learner, PixelLearner
from backend.learners.tasks import looks_at_pixels
from backend.loop.embedders import embedder_of, learner_columns
from backend.loop.embedding import WORTH_A_CLUSTER, embedding_work
from backend.loop.images import LOADERS, Source, sources_of
from backend.loop.learning import learner_of
from backend.store.tables import Round

log = logging.getLogger(__name__)

PIXEL_BATCH = 8  # images that a learner looks at together


def answers_about(
    deployment: Deployment,
    learned: Round,
    control: Control,
    learner: Learner,
    task_ids: Sequence[int] | NDArray[np.int64],
) -> tuple[NDArray[np.int64], Answers | None]:
    """The learner's answers about tasks of the store, as far as they are embedded or their images can be read.

    Returns the ids of those, in the order given, and the answers; None where there are none.
    """
    ids = [int(task_id) for task_id in task_ids]
    if looks_at_pixels(control):
        sources = list(sources_of(deployment, learned.project_id, ids))
        return _by_pixels(deployment, learned, control, cast("PixelLearner", learner), sources, (MediaError,))
    found, vectors = deployment.embeddings.read(learned.project_id, learned.facts["embedder"], ids)
    if not len(found):
        return found, None
    return found, cast("EmbeddingLearner", learner).answers(vectors[:, learner_columns(learned.facts)])


def answers_about_images(
    deployment: Deployment,
    learned: Round,
    control: Control,
    learner: Learner,
    sources: Mapping[int, str],
) -> tuple[NDArray[np.int64], Answers | None]:
    """The answers about images by the ids of their tasks, which the store need not know; never fails for one image.

    A stored embedding is used where there is one.
    """
    failures = (MediaError, MediaUnavailable)  # whoever asks gets an answer, if an empty one
    if looks_at_pixels(control):
        return _by_pixels(
            deployment, learned, control, cast("PixelLearner", learner), list(sources.items()), failures
        )
    stored, vectors = deployment.embeddings.read(learned.project_id, learned.facts["embedder"], list(sources))
    parts, known = [vectors] if len(stored) else [], set(stored.tolist())
    ids = stored.tolist()
    if others := [source for source in sources.items() if source[0] not in known]:
        work = embedding_work(deployment, embedder_of(deployment, learned), failures)
        for batch in local.map_images(others, work, loaders=LOADERS):
            if batch.outputs is not None:
                ids += [task_id for task_id, _ in batch.items]
                parts.append(batch.outputs)
            _tell(batch.broken)
    if not parts:
        return np.empty(0, np.int64), None
    rows = np.concatenate(parts)[:, learner_columns(learned.facts)]
    return np.array(ids, np.int64), cast("EmbeddingLearner", learner).answers(rows)


def _tell(broken: Sequence[tuple[Source, Exception]]) -> None:
    for (task_id, _), error in broken:
        log.warning("task %d has no prediction: %s", task_id, reason_of(error))


def _by_pixels(
    deployment: Deployment,
    learned: Round,
    control: Control,
    learner: PixelLearner,
    sources: Sequence[Source],
    failures: tuple[type[Exception], ...],
) -> tuple[NDArray[np.int64], Answers | None]:
    address = deployment.settings.ray_address
    if address and len(sources) > WORTH_A_CLUSTER:
        make = partial(_load_work, deployment, learned, control, failures)
        batches = ray.map_images(sources, make, address=address, batch_size=PIXEL_BATCH, loaders=LOADERS)
    else:
        work = _work(deployment, learner, failures)
        batches = local.map_images(sources, work, batch_size=PIXEL_BATCH, loaders=LOADERS)
    ids: list[int] = []
    parts: list[Answers] = []
    for batch in batches:
        if batch.outputs is not None:
            ids += [task_id for task_id, _ in batch.items]
            parts.append(batch.outputs)
        _tell(batch.broken)
    return np.array(ids, np.int64), type(parts[0]).concatenate(parts) if parts else None


def _work(
    deployment: Deployment, learner: PixelLearner, failures: tuple[type[Exception], ...]
) -> Work[Source, Any, Answers]:
    """Fetch images and look at them."""

    def load(source: Source) -> Any:
        task_id, address = source
        return learner.prepare(deployment.media.image(address, task_id, at_least=learner.size))

    return Work(load, learner.answers, failures)


def _load_work(
    deployment: Deployment, learned: Round, control: Control, failures: tuple[type[Exception], ...]
) -> Work[Source, Any, Answers]:
    """The work, elsewhere than where the learner is in memory."""
    return _work(deployment, cast("PixelLearner", learner_of(deployment, learned, control)), failures)
