"""The steps fit, evaluate and score: the learner of a round and what it thinks of the pool."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select

from backend.deployment import Deployment
from backend.labelstudio.labeling_config import Control
from backend.labelstudio.results import ChoiceTarget
from backend.learners.classification import HeadCommittee
from backend.learners.evaluation import evaluate
from backend.loop.audit import random_order
from backend.settings import LoopSettings
from backend.store.tables import Round, Task

# Ground-truth annotations measure the model, but where a team marks all of its annotations so, most of them
# must still train it.
LARGEST_VALIDATION_SHARE = 1 / 3


@dataclass(frozen=True)
class LabeledSet:
    """Labeled tasks that have an embedding: ids (n,), embeddings (n, d), vote shares (n, classes)."""

    task_ids: NDArray[np.int64]
    embeddings: NDArray[np.float32]
    targets: NDArray[np.float32]


def labeled_sets(
    deployment: Deployment, project_id: int, embedder: str, control: Control
) -> tuple[LabeledSet, LabeledSet]:
    """The training set and the validation set (audit tasks and ground truth); they share no task."""
    with deployment.database.read() as session:
        rows = session.execute(
            select(Task.id, Task.target, Task.audit, Task.ground_truth)
            .where(Task.project_id == project_id, Task.target.is_not(None), Task.embedded == embedder)
            .order_by(Task.id)
        ).all()
    usable = []
    for row in rows:
        target = _vector(ChoiceTarget.from_json(row.target), control)
        if target is not None:
            usable.append((row.id, target, row.audit, row.ground_truth))
    validation = {task_id for task_id, _, audit, _ in usable if audit}
    extra = [task_id for task_id, _, audit, truth in usable if truth and not audit]
    room = max(0, int(LARGEST_VALIDATION_SHARE * len(usable)) - len(validation))
    order = np.argsort(random_order(project_id, extra))
    validation |= {extra[position] for position in order[:room]}

    ids, vectors = deployment.embeddings.read(project_id, embedder, [row[0] for row in usable])
    place = {int(task_id): position for position, task_id in enumerate(ids)}

    def gather(chosen: list[tuple[int, NDArray[np.float32]]]) -> LabeledSet:
        stored = [(task_id, target) for task_id, target in chosen if task_id in place]
        return LabeledSet(
            np.array([task_id for task_id, _ in stored], np.int64),
            vectors[[place[task_id] for task_id, _ in stored]],
            np.array([target for _, target in stored], np.float32).reshape(len(stored), len(control.classes)),
        )

    return (
        gather([row[:2] for row in usable if row[0] not in validation]),
        gather([row[:2] for row in usable if row[0] in validation]),
    )


def _vector(target: ChoiceTarget, control: Control) -> NDArray[np.float32] | None:
    """Vote shares (classes,) in the config's order; None where all votes were for classes now gone."""
    shares = np.array([target.votes.get(name, 0.0) for name in control.classes], np.float32)
    if control.multiple:
        return shares
    return shares / shares.sum() if shares.sum() > 0 else None


def why_untrainable(targets: NDArray[np.float32], minimum_labels: int, *, multi_label: bool) -> str | None:
    """A sentence that says what is missing before a learner can be trained; None: nothing is.

    targets: (labels, classes) vote shares of the training set.
    """
    if len(targets) < minimum_labels:
        return (
            f"{len(targets)} of {minimum_labels} labels that the first model needs (audit tasks not counted)"
        )
    if multi_label:
        informative = ((targets > 0.5).any(axis=0) & (targets < 0.5).any(axis=0)).any()
        return None if informative else "every label so far is the same; a model needs a difference to learn"
    if (targets.sum(axis=0) > 0).sum() < 2:
        return "all labels so far are of one class; a model needs at least two"
    return None


def fit(training: LabeledSet, control: Control, settings: LoopSettings, seed: int) -> HeadCommittee:
    """Train the committee on the training set."""
    return HeadCommittee.fit(
        training.embeddings,
        training.targets,
        control.classes,
        multi_label=control.multiple,
        members=settings.members,
        seed=seed,
    )


def measure(committee: HeadCommittee, validation: LabeledSet) -> dict[str, Any] | None:
    """Accuracy on the validation set, with its interval and counts; None where nothing is labeled there."""
    if not len(validation.task_ids):
        return None
    probabilities = committee.probabilities(validation.embeddings).mean(axis=0)
    return evaluate(
        probabilities, validation.targets, committee.classes, multi_label=committee.multi_label
    ).to_json()


def disagreements(deployment: Deployment, project_id: int) -> list[int]:
    """Tasks on which the annotators do not agree."""
    with deployment.database.read() as session:
        rows = session.execute(
            select(Task.id, Task.target).where(Task.project_id == project_id, Task.target.is_not(None))
        ).all()
    return [row.id for row in rows if ChoiceTarget.from_json(row.target).agreement < 1]


def labeled_count(deployment: Deployment, project_id: int) -> int:
    """How many tasks have an answer that the loop can learn from."""
    with deployment.database.read() as session:
        query = select(func.count()).where(Task.project_id == project_id, Task.target.is_not(None))
        return session.scalar(query) or 0


def committee_of(deployment: Deployment, learned: Round) -> HeadCommittee:
    """The learner that a round trained."""
    return HeadCommittee.load(deployment.model_folder(learned.project_id, learned.version))
