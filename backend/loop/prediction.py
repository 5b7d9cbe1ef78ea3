"""Predictions: of queued tasks for publishing, and of any task on request from Label Studio."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from backend.deployment import Deployment
from backend.labelstudio.control import Control
from backend.labelstudio.labeling_config import LabelingConfig, read_labeling_config
from backend.labelstudio.results import labels_in, write_result
from backend.learners.learner import Answers, Learner
from backend.loop.answering import answers_about, answers_about_images
from backend.loop.damage import DAMAGE, note_damage
from backend.loop.learning import learner_artifact, learner_of, was_trained
from backend.loop.rounds import served_round
from backend.settings import LoopSettings
from backend.store.tables import Project, QueueEntry, Round

LEARNERS_KEPT = 32  # in memory, the last used ones
QUEUE_STEP = 2.0**-21  # exact in binary, so that ranks up to 2**20 give distinct scores below 0.5
NO_MODEL_VERSION = "active-learning"  # before the first round is published

log = logging.getLogger(__name__)

_loaded: dict[str, Learner] = {}
_loading = threading.Lock()


@dataclass(frozen=True)
class Shown:
    """What the learners think of one task, as Label Studio shows it."""

    result: list[dict[str, Any]]  # in Label Studio's format
    confidence: float  # in [0, 1], of the least sure learner

    def in_words(self) -> dict[str, Any]:
        """What the queue keeps of it: the confidence, and how often each class or name is in the result."""
        return {"confidence": round(self.confidence, 4), "labels": dict(Counter(labels_in(self.result)))}


NOTHING = Shown([], 0.0)


def queue_score(rank: int) -> float:
    """The score that places a published task: ascending with its rank, in [0, 0.5)."""
    return rank * QUEUE_STEP


def request_score(confidence: float) -> float:
    """The score of a prediction made on request: behind the whole queue, the least confident first."""
    return 0.5 + 0.5 * confidence


def predict_stored(
    deployment: Deployment, learned: Round, config: LabelingConfig, task_ids: Sequence[int]
) -> dict[int, Shown]:
    """Predictions of tasks of the store, as far as they are embedded or their images can be read."""

    def ask(control: Control, learner: Learner) -> tuple[NDArray[np.int64], Answers | None]:
        return answers_about(deployment, learned, control, learner, task_ids)

    # Not from memory: a damaged file is to be noticed, and the learner trained anew, while somebody can wait for it.
    return _predict(learned, config, lambda control: learner_of(deployment, learned, control), ask)


def predict_images(
    deployment: Deployment, learned: Round, config: LabelingConfig, sources: Mapping[int, str]
) -> dict[int, Shown]:
    """Predictions of tasks whose images must be fetched, and embedded where a learner wants embeddings."""

    def ask(control: Control, learner: Learner) -> tuple[NDArray[np.int64], Answers | None]:
        return answers_about_images(deployment, learned, control, learner, sources)

    return _predict(learned, config, lambda control: _kept_learner(deployment, learned, control), ask)


def _predict(
    learned: Round,
    config: LabelingConfig,
    load: Callable[[Control], Learner],
    ask: Callable[[Control, Learner], tuple[NDArray[np.int64], Answers | None]],
) -> dict[int, Shown]:
    """The results of all controls together."""
    shown: dict[int, Shown] = {}
    trained = [control for control in config.controls if was_trained(learned, control)]
    # A box that somebody is named in is shown with the name.
    named = {(control.boxes, control.box_label) for control in trained}
    for control in trained:
        classes = [name for name in control.classes if (control.name, name) not in named]
        if control.classes and not classes:
            continue
        ids, answers = ask(control, load(control))
        for position, task_id in enumerate(ids.tolist()):
            assert answers is not None
            prediction = answers.prediction(position)
            if control.classes:  # the config may have changed since the learner was trained
                prediction = prediction.among(classes)
            before = shown.get(task_id)
            shown[task_id] = Shown(
                (before.result if before else []) + write_result(control, prediction),
                min(prediction.confidence, before.confidence if before else 1.0),
            )
    return shown


def answer(
    deployment: Deployment, project_id: int, label_config: str, tasks: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """One prediction for each task that Label Studio asks about, in its order.

    Neither an image nor a model that cannot be read makes it fail.
    """
    learned = served_round(deployment, project_id)
    version = learned.version if learned else NO_MODEL_VERSION
    predictions: dict[int, Shown] = {}
    ranks: dict[int, int] = {}
    if learned is not None:
        ranks = _published_ranks(deployment, learned, [task["id"] for task in tasks])
        try:
            predictions = _predictions(deployment, learned, label_config, tasks)
        except DAMAGE as error:
            log.warning("nothing is predicted until a round has made the model anew: %s", error)
            note_damage(deployment, project_id)
    answers = []
    for task in tasks:
        prediction = predictions.get(task["id"], NOTHING)
        rank = ranks.get(task["id"])
        score = request_score(prediction.confidence) if rank is None else queue_score(rank)
        answers.append({"result": prediction.result, "score": score, "model_version": version})
    return answers


def _predictions(
    deployment: Deployment, learned: Round, label_config: str, tasks: Sequence[Mapping[str, Any]]
) -> dict[int, Shown]:
    config = read_labeling_config(label_config)
    with deployment.database.read() as session:
        project = session.get_one(Project, learned.project_id)
    if not learned.trained or not LoopSettings.resolve(config.settings, project.extra_params).preannotate:
        return {}
    sources = {task["id"]: config.image_source(task["data"]) or "" for task in tasks}
    return predict_images(deployment, learned, config, sources)


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


def _kept_learner(deployment: Deployment, learned: Round, control: Control) -> Learner:
    """A learner, loaded once in a process; a version that is served is not trained again."""
    address = deployment.artifacts.address(learner_artifact(learned, control))
    with _loading:
        learner = _loaded.pop(address, None) or learner_of(deployment, learned, control)
        _loaded[address] = learner  # at the end: the last used
        if len(_loaded) > LEARNERS_KEPT:
            del _loaded[next(iter(_loaded))]
        return learner
