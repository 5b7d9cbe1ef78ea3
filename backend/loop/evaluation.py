"""The step evaluate: how good a learner is on labeled images that it was not trained on."""

from typing import Any

from backend.deployment import Deployment
from backend.labelstudio.control import Control
from backend.learners.learner import Learner
from backend.learners.tasks import evaluate_answers
from backend.loop.answering import answers_about
from backend.loop.learning import LabeledSet
from backend.store.tables import Round


def measure(
    deployment: Deployment, current: Round, control: Control, learner: Learner, validation: LabeledSet
) -> dict[str, Any] | None:
    """The score on the validation set, with its interval and parts; None where nothing is labeled there."""
    ids, answers = answers_about(deployment, current, control, learner, validation.task_ids)
    if answers is None:
        return None
    target_of = dict(zip(validation.task_ids.tolist(), validation.targets, strict=True))
    return evaluate_answers(control, answers, [target_of[int(task_id)] for task_id in ids]).to_json()
