"""The step select: a ranking of the whole pool, the audit tasks woven in, kept in the store as the queue."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import case, delete, false, select

from backend.deployment import Deployment
from backend.labelstudio.control import Control
from backend.learners.learner import Answers, Learner
from backend.learners.tasks import class_shares, known_classes
from backend.loop.answering import answers_about
from backend.loop.audit import interleave, shuffled
from backend.loop.embedders import learner_columns, selection_columns
from backend.loop.learning import LabeledSet
from backend.loop.pool import Labeled, check_available, make_pool, validated
from backend.loop.rounds import seed_of
from backend.settings import InvalidSettings, LoopSettings
from backend.store.database import upsert
from backend.store.ids import read_ids_by_part
from backend.store.tables import QueueEntry, Round, Task
from strategies import MissingNeed, Need, strategy

log = logging.getLogger(__name__)

QUEUE_WINDOWS = 3  # how many windows a ranking holds: one is published, and topped up from the others
AUDIT_REASON = "random sample: it measures the model without bias"
NOT_RANKED_REASON = "drawn at random: the model has not looked at it in this round"
NOT_EMBEDDED_REASON = "its image has not been embedded yet"
SKIPPED_REASON = "an annotator skipped it"
UNKNOWN = "unknown"  # the value of a metadata field that an image lacks
BROKEN_REASON = "its image cannot be read"


@dataclass(frozen=True)
class UnlabeledPool:
    """The unlabeled tasks of a project by what can be done with them; ids, each part in random order."""

    candidates: NDArray[np.int64]  # embedded: the strategy ranks them
    audit: NDArray[np.int64]
    not_embedded: NDArray[np.int64]
    skipped: NDArray[np.int64]
    broken: NDArray[np.int64]

    @property
    def size(self) -> int:
        """How many tasks have no label."""
        return sum(len(part) for part in vars(self).values())


def unlabeled_pool(deployment: Deployment, project_id: int, embedder: str | None) -> UnlabeledPool:
    """The tasks that nobody has labeled."""
    embedded = Task.embedded == embedder if embedder is not None else false()
    part = case(
        (Task.broken.is_not(None), "broken"),
        (Task.skips > 0, "skipped"),
        (Task.audit, "audit"),
        (embedded, "candidates"),
        else_="not_embedded",
    )
    with deployment.database.read() as session:
        parts = read_ids_by_part(
            session,
            select(part, Task.id).where(Task.project_id == project_id, Task.target.is_(None), ~Task.labeled),
        )

    def ordered(name: str) -> NDArray[np.int64]:
        return shuffled(project_id, parts.get(name, np.empty(0, np.int64)))

    return UnlabeledPool(
        candidates=ordered("candidates"),
        audit=ordered("audit"),
        not_embedded=ordered("not_embedded"),
        skipped=ordered("skipped"),
        broken=ordered("broken"),
    )


@dataclass(frozen=True)
class Ranked:
    """A task of a ranking, with its acquisition score and the reason why it was chosen."""

    task_id: int
    score: float
    reason: str


def rank_candidates(
    deployment: Deployment,
    current: Round,
    control: Control,
    task_ids: NDArray[np.int64],
    labeled: tuple[LabeledSet, LabeledSet],
    learner: Learner | None,
    answers: Answers | None,
    settings: LoopSettings,
    size: int,
) -> list[Ranked]:
    """Rank candidates for what one control asks, by its strategy.

    task_ids: the candidates; one without a stored embedding is left out. labeled: training set and validation set.
    learner: None in cold start. answers: the learner's about the candidates.

    Raises InvalidSettings for a strategy that needs what the project's images do not have.
    """
    name = "strategy" if learner else "cold_start_strategy"
    chosen = strategy(getattr(settings, name))
    found, vectors = deployment.embeddings.read(
        current.project_id, current.facts["embedder"], task_ids.tolist()
    )
    if answers is not None:
        answers = answers.take(np.flatnonzero(np.isin(task_ids, found)))
    task_ids = found
    training, validation = labeled
    classes = learner.classes if learner else known_classes(control, training.targets)
    groups = _groups(deployment, current.project_id, task_ids) if Need.GROUPS in chosen.needs else []
    labeled_groups = [*training.groups, *validation.groups]
    fields = sorted({field for values in (*groups, *labeled_groups) for field in values})
    try:
        check_available(chosen, control.task, in_boxes=control.in_boxes)
        made = make_pool(
            chosen,
            question=control,
            classes=classes,
            embeddings=vectors[:, selection_columns(current.facts)],
            features=vectors[:, learner_columns(current.facts)],
            groups=_columns(groups, fields),
            labeled=Labeled(
                np.concatenate([training.selection_embeddings, validation.selection_embeddings]),
                class_shares([*training.targets, *validation.targets], classes),
                _columns(labeled_groups, fields),
            ),
            answers=answers,
            labeled_answers=lambda: _answers_about_labeled(deployment, current, control, learner, labeled),
            validation=lambda: validated(learner, control, validation.embeddings, validation.targets),
        )
        ranking = chosen.rank(made, size, batch_size=settings.labels_per_round, seed=seed_of(current))
    except MissingNeed as error:
        raise InvalidSettings(f"setting {name!r}: {error}") from error
    return [
        Ranked(int(task_ids[position]), float(score), reason)
        for position, score, reason in zip(ranking.indices, ranking.scores, ranking.reasons, strict=True)
    ]


def _answers_about_labeled(
    deployment: Deployment,
    current: Round,
    control: Control,
    learner: Learner | None,
    labeled: tuple[LabeledSet, LabeledSet],
) -> Answers | None:
    if learner is None:
        return None
    training, validation = labeled
    ids = np.concatenate([training.task_ids, validation.task_ids])
    return answers_about(deployment, current, control, learner, ids)[1]


def merge(rankings: Mapping[str, Sequence[Ranked]], size: int) -> list[Ranked]:
    """One ranking of those of several controls: they choose in turn, and reasons say which of them it was.

    Taking turns needs no common scale for the scores of different tasks.
    """
    if len(rankings) == 1:
        return list(*rankings.values())[:size]
    merged: dict[int, Ranked] = {}
    for turn in zip_longest(*rankings.values()):
        for name, ranked in zip(rankings, turn, strict=True):
            if ranked is not None and ranked.task_id not in merged:
                merged[ranked.task_id] = replace(ranked, reason=f"{name}: {ranked.reason}")
    return list(merged.values())[:size]


def _groups(deployment: Deployment, project_id: int, ids: NDArray[np.int64]) -> list[dict[str, str]]:
    """The metadata of tasks, in the order of `ids`."""
    with deployment.database.read() as session:
        rows = session.execute(select(Task.id, Task.groups).where(Task.project_id == project_id))
        by_id: dict[int, dict[str, str]] = dict(rows.all())
    return [by_id.get(int(task_id), {}) for task_id in ids]


def _columns(groups: Sequence[Mapping[str, str]], fields: Sequence[str]) -> dict[str, NDArray[np.str_]]:
    """A column for each metadata field; an image without it has the value UNKNOWN."""
    return {name: np.array([values.get(name, UNKNOWN) for values in groups], np.str_) for name in fields}


def write_queue(
    deployment: Deployment,
    current: Round,
    pool: UnlabeledPool,
    ranking: Sequence[Ranked],
    share: float,
    size: int,
) -> int:
    """Store a round's queue, `size` tasks at most; returns its length.

    The ranking comes first; then, so that the queue never runs dry before the pool does, the tasks that could not be
    ranked. The audit tasks are woven into both.
    """
    chosen: dict[int, tuple[float | None, str]] = {one.task_id: (one.score, one.reason) for one in ranking}
    for part, reason in (
        (pool.candidates[~np.isin(pool.candidates, list(chosen))], NOT_RANKED_REASON),
        (pool.not_embedded, NOT_EMBEDDED_REASON),
    ):
        chosen |= {int(task_id): (None, reason) for task_id in part[: max(0, size - len(chosen))]}
    order = [
        (task_id, None, AUDIT_REASON) if is_audit else (task_id, *chosen[task_id])
        for task_id, is_audit in interleave(list(chosen), pool.audit[:size].tolist(), share)
    ]
    for part, reason in ((pool.skipped, SKIPPED_REASON), (pool.broken, BROKEN_REASON)):
        order += [(int(task_id), None, reason) for task_id in part[: max(0, size - len(order))]]
    rows = [
        {"round_id": current.id, "rank": rank, "task_id": task_id, "score": score, "reason": reason}
        for rank, (task_id, score, reason) in enumerate(order[:size])
    ]
    with deployment.database.write() as session:
        session.execute(delete(QueueEntry).where(QueueEntry.round_id == current.id))
        upsert(session, QueueEntry, rows)
    return len(rows)
