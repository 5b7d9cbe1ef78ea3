"""The steps fit and evaluate: the labeled set, and the learner of a round."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from sqlalchemy import func, select

from backend.deployment import Deployment
from backend.labelstudio.control import Control
from backend.labelstudio.media import MediaError, MediaUnavailable
from backend.learners.learner import Embed, Learner
from backend.learners.tasks import Examples, fit_learner, is_usable, load_learner, read_stored_target
from backend.loop.audit import random_order
from backend.loop.embedders import embedder_of, learner_columns, selection_columns
from backend.loop.rounds import seed_of
from backend.settings import LoopSettings
from backend.store.artifacts import models
from backend.store.tables import Round, Task
from backend.targets import Target

# Ground-truth annotations measure the model, but where a team marks all of its annotations so, most of them
# must still train it.
LARGEST_VALIDATION_SHARE = 1 / 3
# Pixels of the shorter side with which images are loaded for training; learners work on less.
TRAINING_SIDE = 640
DISAGREEMENTS_KEPT = 100  # tasks that a round names


class BrokenExample(Exception):
    """A labeled image that can no longer be read. The message says why."""

    def __init__(self, task_id: int, reason: str) -> None:
        super().__init__(reason)
        self.task_id = task_id


@dataclass(frozen=True)
class LabeledSet:
    """Tasks that have an embedding and an answer to one control: ids (n,), embeddings, answers and metadata."""

    task_ids: NDArray[np.int64]
    sources: tuple[str, ...]
    embeddings: NDArray[np.float32]
    """(n, d), the learner's columns"""
    selection_embeddings: NDArray[np.float32]
    """(n, e), the strategy's columns; the same where no other embedding is set"""
    targets: tuple[Target, ...]
    groups: tuple[dict[str, str], ...]

    def __len__(self) -> int:
        return len(self.task_ids)


def labeled_sets(
    deployment: Deployment, project_id: int, facts: Mapping[str, Any], control: Control
) -> tuple[LabeledSet, LabeledSet]:
    """The training set and the validation set (audit tasks and ground truth) of a control; they share no task.

    facts: the round's, which name the embedder.
    """
    embedder = facts.get("embedder") or ""
    with deployment.database.read() as session:
        rows = session.execute(
            select(Task.id, Task.source, Task.target, Task.audit, Task.ground_truth, Task.groups)
            .where(
                Task.project_id == project_id,
                Task.target.is_not(None),
                Task.embedded == embedder,
                Task.broken.is_(None),
            )
            .order_by(Task.id)
        ).all()
    usable = []
    for row in rows:
        if (stored := row.target.get(control.name)) is not None:
            target = read_stored_target(control, stored)
            if is_usable(control, target):
                usable.append(_Labeled(row.id, row.source, target, row.audit, row.ground_truth, row.groups))
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
            tuple(task.source for task in stored),
            rows[:, learner_columns(facts)],
            rows[:, selection_columns(facts)],
            tuple(task.target for task in stored),
            tuple(task.groups for task in stored),
        )

    return (
        gather([task for task in usable if task.id not in validation]),
        gather([task for task in usable if task.id in validation]),
    )


class _Labeled(NamedTuple):
    id: int
    source: str
    target: Target
    audit: bool
    ground_truth: bool
    groups: dict[str, str]


def fit(
    deployment: Deployment,
    current: Round,
    training: LabeledSet,
    control: Control,
    settings: LoopSettings,
    on_progress: Callable[[float], None] | None = None,
) -> Learner:
    """Train the learner of a control. on_progress: is told the share that is done, now and then.

    Raises BrokenExample where a labeled image cannot be read, MediaUnavailable where it cannot be had for now.
    """

    def load(position: int) -> Image:
        task_id = int(training.task_ids[position])
        try:
            return deployment.media.image(training.sources[position], task_id, at_least=TRAINING_SIDE)
        except MediaError as error:
            if error.temporary:
                raise MediaUnavailable(str(error)) from None
            raise BrokenExample(task_id, str(error)) from None

    examples = Examples(training.embeddings, load, training.targets, embed_as(deployment, current))
    return fit_learner(control, examples, settings, seed=seed_of(current), on_progress=on_progress)


def embed_as(deployment: Deployment, learned: Round) -> Embed:
    """Embeds images as a round's learner has them."""
    columns = learner_columns(learned.facts)
    embedder = cache(lambda: embedder_of(deployment, learned))  # looked for once, and only where it is needed
    return lambda images: embedder().embed(images)[:, columns]


def disagreements(deployment: Deployment, project_id: int) -> dict[str, Any]:
    """What a round notes of tasks on which the annotators do not agree: the first ones, and how many there are."""
    split = (Task.project_id == project_id) & Task.target.is_not(None) & (Task.agreement < 1)
    first = select(Task.id).where(split).order_by(Task.id).limit(DISAGREEMENTS_KEPT)
    with deployment.database.read() as session:
        return {
            "disagreements": list(session.scalars(first)),
            "disagreement_count": session.scalar(select(func.count()).where(split)),
        }


def labeled_count(deployment: Deployment, project_id: int) -> int:
    """How many tasks have an answer that the loop can learn from."""
    with deployment.database.read() as session:
        query = select(func.count()).where(Task.project_id == project_id, Task.target.is_not(None))
        return session.scalar(query) or 0


def learner_artifact(learned: Round, control: Control) -> str:
    """The key of the artifact that holds the learner of a control."""
    return f"{models(learned.project_id)}/{learned.version}/{quote(control.name, safe='')}"


def learner_of(deployment: Deployment, learned: Round, control: Control) -> Learner:
    """The learner that a round trained for a control. Raises FileNotFoundError and `weights.DamagedWeights`."""
    folder = deployment.artifacts.reading(learner_artifact(learned, control))
    return load_learner(control, folder, embed_as(deployment, learned))


def was_trained(learned: Round, control: Control) -> bool:
    """Whether a round trained a learner for a control."""
    return bool(control_facts(learned, control).get("trained"))


def control_facts(learned: Round, control: Control) -> Mapping[str, Any]:
    """What a round notes of one control."""
    facts: Mapping[str, Any] = learned.facts.get("controls", {}).get(control.name, {})
    return facts
