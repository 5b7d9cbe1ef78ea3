"""The steps fit, evaluate and score: the learner of a round and what it thinks of the pool."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select

from backend.deployment import Deployment
from backend.labelstudio.labeling_config import Control
from backend.labelstudio.results import ChoiceTarget
from backend.learners.committee import Committee, fit_committee, load_committee
from backend.learners.evaluation import evaluate
from backend.loop.audit import random_order
from backend.loop.embedding import learner_columns, selection_columns
from backend.settings import LoopSettings
from backend.store.tables import Round, Task

# Ground-truth annotations measure the model, but where a team marks all of its annotations so, most of them
# must still train it.
LARGEST_VALIDATION_SHARE = 1 / 3


@dataclass(frozen=True)
class LabeledSet:
    """Labeled tasks that have an embedding: ids (n,), embeddings, vote shares (n, classes) and metadata."""

    task_ids: NDArray[np.int64]
    embeddings: NDArray[np.float32]
    """(n, d), the learner's columns"""
    selection_embeddings: NDArray[np.float32]
    """(n, e), the strategy's columns; the same where no other embedding is set"""
    targets: NDArray[np.float32]
    groups: tuple[dict[str, str], ...]


def labeled_sets(
    deployment: Deployment, project_id: int, facts: Mapping[str, Any], control: Control
) -> tuple[LabeledSet, LabeledSet]:
    """The training set and the validation set (audit tasks and ground truth); they share no task.

    facts: the round's, which name the embedder.
    """
    embedder = facts.get("embedder") or ""
    with deployment.database.read() as session:
        rows = session.execute(
            select(Task.id, Task.target, Task.audit, Task.ground_truth, Task.groups)
            .where(Task.project_id == project_id, Task.target.is_not(None), Task.embedded == embedder)
            .order_by(Task.id)
        ).all()
    usable = []
    for row in rows:
        target = _vector(ChoiceTarget.from_json(row.target), control)
        if target is not None:
            usable.append(_Labeled(row.id, target, row.audit, row.ground_truth, row.groups))
    validation = {task.id for task in usable if task.audit}
    extra = [task.id for task in usable if task.ground_truth and not task.audit]
    room = max(0, int(LARGEST_VALIDATION_SHARE * len(usable)) - len(validation))
    order = np.argsort(random_order(project_id, extra))
    validation |= {extra[position] for position in order[:room]}

    ids, vectors = deployment.embeddings.read(project_id, embedder, [task.id for task in usable])
    place = {int(task_id): position for position, task_id in enumerate(ids)}

    def gather(chosen: list[_Labeled]) -> LabeledSet:
        stored = [task for task in chosen if task.id in place]
        rows = vectors[[place[task.id] for task in stored]]
        return LabeledSet(
            np.array([task.id for task in stored], np.int64),
            rows[:, learner_columns(facts)],
            rows[:, selection_columns(facts)],
            np.array([task.target for task in stored], np.float32).reshape(len(stored), len(control.classes)),
            tuple(task.groups for task in stored),
        )

    return (
        gather([task for task in usable if task.id not in validation]),
        gather([task for task in usable if task.id in validation]),
    )


class _Labeled(NamedTuple):
    id: int
    target: NDArray[np.float32]
    audit: bool
    ground_truth: bool
    groups: dict[str, str]


def _vector(target: ChoiceTarget, control: Control) -> NDArray[np.float32] | None:
    """Vote shares (classes,) in the config's order; None where all votes were for classes now gone."""
    shares = np.array([target.votes.get(name, 0.0) for name in control.classes], np.float32)
    if control.multiple:
        return shares
    return shares / shares.sum() if shares.sum() > 0 else None


def fit(training: LabeledSet, control: Control, settings: LoopSettings, seed: int) -> Committee:
    """Train the committee on the training set."""
    return fit_committee(
        settings.learner,
        training.embeddings,
        training.targets,
        control.classes,
        multi_label=control.multiple,
        members=settings.members,
        seed=seed,
    )


def measure(committee: Committee, validation: LabeledSet) -> dict[str, Any] | None:
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


def committee_of(deployment: Deployment, learned: Round) -> Committee:
    """The learner that a round trained."""
    return load_committee(deployment.model_folder(learned.project_id, learned.version))
