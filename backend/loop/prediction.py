"""Predictions: of queued tasks for publishing, and of any task on request from Label Studio."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from backend.deployment import Deployment
from backend.engine.local import map_images
from backend.labelstudio.labeling_config import Control, LabelingConfig, read_labeling_config
from backend.labelstudio.media import MediaError, MediaUnavailable
from backend.labelstudio.results import choices_result
from backend.learners.committee import Committee, load_committee
from backend.loop.embedding import LOADERS, embedder_of, learner_columns
from backend.loop.rounds import served_round
from backend.settings import LoopSettings
from backend.store.tables import Project, QueueEntry, Round

log = logging.getLogger(__name__)

QUEUE_STEP = 2.0**-21  # exact in binary, so that ranks up to 2**20 give distinct scores below 0.5
NO_MODEL_VERSION = "active-learning"  # before the first round is published


@dataclass(frozen=True)
class Prediction:
    """What the committee thinks of one task."""

    result: list[dict[str, Any]]  # in Label Studio's format
    confidence: float  # in [0, 1]


def queue_score(rank: int) -> float:
    """The score that places a published task: ascending with its rank, in [0, 0.5)."""
    return rank * QUEUE_STEP


def request_score(confidence: float) -> float:
    """The score of a prediction made on request: behind the whole queue, the least confident first."""
    return 0.5 + 0.5 * confidence


def predict_embedded(
    deployment: Deployment,
    learned: Round,
    committee: Committee,
    control: Control,
    task_ids: NDArray[np.int64],
) -> dict[int, Prediction]:
    """Predictions of the given tasks, as far as their embeddings are stored."""
    ids, vectors = deployment.embeddings.read(
        learned.project_id, learned.facts["embedder"], task_ids.tolist()
    )
    if not len(ids):
        return {}
    vectors = vectors[:, learner_columns(learned.facts)]
    return dict(zip(ids.tolist(), predict(committee, control, vectors), strict=True))


def predict(committee: Committee, control: Control, embeddings: NDArray[np.float32]) -> list[Prediction]:
    """Predictions from embeddings (n, d): the mean of the committee, limited to the config's classes."""
    predictions = []
    for row in committee.probabilities(embeddings).mean(axis=0):
        shares = {
            name: float(p) for name, p in zip(committee.classes, row, strict=True) if name in control.classes
        }
        if control.multiple:
            chosen = [name for name, p in shares.items() if p >= 0.5]
            confidence = min((max(p, 1 - p) for p in shares.values()), default=0.0)
        else:
            best = max(shares, key=lambda name: shares[name], default=None)
            chosen = [best] if best is not None else []
            confidence = shares[best] if best is not None else 0.0
        result = choices_result(control, chosen, min(1.0, confidence)) if chosen else []
        predictions.append(Prediction(result, min(1.0, confidence)))
    return predictions


def answer(
    deployment: Deployment, project_id: int, label_config: str, tasks: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """One prediction for each task that Label Studio asks about, in its order; never fails for one image."""
    learned = served_round(deployment, project_id)
    version = learned.version if learned else NO_MODEL_VERSION
    predictions: dict[int, Prediction] = {}
    ranks: dict[int, int] = {}
    if learned is not None:
        ranks = _published_ranks(deployment, learned, [task["id"] for task in tasks])
        predictions = _predictions(deployment, learned, label_config, tasks)
    answers = []
    for task in tasks:
        prediction = predictions.get(task["id"], Prediction([], 0.0))
        rank = ranks.get(task["id"])
        score = request_score(prediction.confidence) if rank is None else queue_score(rank)
        answers.append({"result": prediction.result, "score": score, "model_version": version})
    return answers


def _predictions(
    deployment: Deployment, learned: Round, label_config: str, tasks: Sequence[Mapping[str, Any]]
) -> dict[int, Prediction]:
    config = read_labeling_config(label_config)
    control = config.controls[0]
    with deployment.database.read() as session:
        project = session.get_one(Project, learned.project_id)
    settings = LoopSettings.resolve(control.settings, project.extra_params)
    if not learned.trained or not settings.preannotate:
        return {}
    committee = _committee(deployment.model_folder(learned.project_id, learned.version))
    ids = np.array([task["id"] for task in tasks], np.int64)
    predictions = predict_embedded(deployment, learned, committee, control, ids)
    others = [task for task in tasks if task["id"] not in predictions]
    if others:
        predictions |= _predict_images(deployment, learned, committee, control, others)
    return predictions


def _predict_images(
    deployment: Deployment,
    learned: Round,
    committee: Committee,
    control: Control,
    tasks: Sequence[Mapping[str, Any]],
) -> dict[int, Prediction]:
    """Predictions of tasks whose images must be fetched and embedded first."""
    embedder = embedder_of(deployment, learned)
    sources = {task["id"]: LabelingConfig((control,)).image_source(task["data"]) or "" for task in tasks}
    predictions: dict[int, Prediction] = {}
    for batch in map_images(
        sources,
        lambda task_id: deployment.media.image(sources[task_id], task_id, at_least=embedder.size),
        embedder.embed,
        loaders=LOADERS,
        failures=(MediaError, MediaUnavailable),
    ):
        if batch.items:
            vectors = batch.outputs[:, learner_columns(learned.facts)]
            predictions |= dict(zip(batch.items, predict(committee, control, vectors), strict=True))
        for task_id, reason in batch.broken:
            log.warning("project %d, task %d: no prediction: %s", learned.project_id, task_id, reason)
    return predictions


def _published_ranks(deployment: Deployment, learned: Round, task_ids: Sequence[int]) -> dict[int, int]:
    ranks: dict[int, int] = {}
    with deployment.database.read() as session:
        for start in range(0, len(task_ids), 500):
            chosen = QueueEntry.task_id.in_(task_ids[start : start + 500])
            rows = session.execute(
                select(QueueEntry.task_id, QueueEntry.rank).where(
                    QueueEntry.round_id == learned.id, QueueEntry.published, chosen
                )
            )
            ranks |= {row.task_id: row.rank for row in rows}
    return ranks


@lru_cache(maxsize=32)
def _committee(folder: Path) -> Committee:
    """A learner, loaded once in a process; a version that is served is not trained again."""
    return load_committee(folder)
