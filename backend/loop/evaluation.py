"""The step evaluate: how good a learner is on labeled images that it was not trained on."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from backend.deployment import Deployment
from backend.labelstudio.control import Control
from backend.learners.evaluation import answered_right
from backend.learners.learner import EmbeddingLearner, Learner
from backend.learners.tasks import Question, class_shares, evaluate_answers
from backend.loop.answering import answers_about
from backend.loop.learning import LabeledSet
from backend.store.tables import Round
from backend.targets import Target
from strategies import Validation


def measure(
    deployment: Deployment, current: Round, control: Control, learner: Learner, validation: LabeledSet
) -> dict[str, Any] | None:
    """The score on the validation set, with its interval and parts; None where nothing is labeled there."""
    ids, answers = answers_about(deployment, current, control, learner, validation.task_ids)
    if answers is None:
        return None
    target_of = dict(zip(validation.task_ids.tolist(), validation.targets, strict=True))
    return evaluate_answers(control, answers, [target_of[int(task_id)] for task_id in ids]).to_json()


def validated(
    learner: Learner | None, question: Question, embeddings: NDArray[np.float32], targets: Sequence[Target]
) -> Validation:
    """Where a learner that is given embeddings was right and where wrong."""
    answers = cast("EmbeddingLearner", learner).answers(embeddings)
    fields = answers.pool_fields()
    shares = class_shares(targets, cast("Learner", learner).classes)
    right = answered_right(fields["committee"].mean(axis=0), shares, question.multiple)
    return Validation(fields.get("features", embeddings), right)
