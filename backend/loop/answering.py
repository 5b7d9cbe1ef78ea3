"""What a round's learner says of tasks: from their stored embeddings, or by looking at their images."""

import logging
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from backend.deployment import Deployment
from backend.engine.local import map_images
from backend.labelstudio.control import Control
from backend.labelstudio.media import MediaError, MediaUnavailable
from backend.learners.learner import Answers, EmbeddingLearner, Learner, PixelLearner
from backend.learners.tasks import looks_at_pixels
from backend.loop.embedding import LOADERS, embedder_of, learner_columns
from backend.store.tables import Round, Task

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
        sources = _sources(deployment, learned, ids)
        return _by_pixels(deployment, learned, cast("PixelLearner", learner), sources, (MediaError,))
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
        return _by_pixels(deployment, learned, cast("PixelLearner", learner), sources, failures)
    stored, vectors = deployment.embeddings.read(learned.project_id, learned.facts["embedder"], list(sources))
    parts, known = [vectors] if len(stored) else [], set(stored.tolist())
    ids = stored.tolist()
    if others := [task_id for task_id in sources if task_id not in known]:
        embedder = embedder_of(deployment, learned)
        for batch in map_images(
            others,
            lambda task_id: deployment.media.image(sources[task_id], task_id, at_least=embedder.size),
            embedder.embed,
            loaders=LOADERS,
            failures=failures,
        ):
            if batch.outputs is not None:
                ids += batch.items
                parts.append(batch.outputs)
            _tell(learned, batch.broken)
    if not parts:
        return np.empty(0, np.int64), None
    rows = np.concatenate(parts)[:, learner_columns(learned.facts)]
    return np.array(ids, np.int64), cast("EmbeddingLearner", learner).answers(rows)


def _tell(learned: Round, broken: Sequence[tuple[int, str]]) -> None:
    for task_id, reason in broken:
        log.warning("task %d has no prediction: %s", task_id, reason)


def _by_pixels(
    deployment: Deployment,
    learned: Round,
    learner: PixelLearner,
    sources: Mapping[int, str],
    failures: tuple[type[Exception], ...],
) -> tuple[NDArray[np.int64], Answers | None]:
    ids: list[int] = []
    parts: list[Answers] = []
    for batch in map_images(
        sources,
        lambda task_id: learner.prepare(
            deployment.media.image(sources[task_id], task_id, at_least=learner.size)
        ),
        learner.answers,
        batch_size=PIXEL_BATCH,
        loaders=LOADERS,
        failures=failures,
    ):
        if batch.outputs is not None:
            ids += batch.items
            parts.append(batch.outputs)
        _tell(learned, batch.broken)
    return np.array(ids, np.int64), type(parts[0]).concatenate(parts) if parts else None


def _sources(deployment: Deployment, learned: Round, task_ids: Sequence[int]) -> dict[int, str]:
    """Where the images of tasks are, in the order of `task_ids`; a task that is gone is left out."""
    found: dict[int, str] = {}
    with deployment.database.read() as session:
        for start in range(0, len(task_ids), 500):
            chosen = Task.id.in_(task_ids[start : start + 500])
            rows = session.execute(
                select(Task.id, Task.source).where(Task.project_id == learned.project_id, chosen)
            )
            found |= {row.id: row.source for row in rows}
    return {task_id: found[task_id] for task_id in task_ids if task_id in found}
