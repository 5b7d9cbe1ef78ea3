"""The steps of a round. Each may be repeated: it does its work anew from what the store and the disk hold."""

import shutil
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import update

from backend.deployment import Deployment
from backend.labelstudio.labeling_config import Control, read_labeling_config
from backend.learners.classification import why_untrainable
from backend.learners.committee import Committee
from backend.loop import learning, publishing, selection, stopping
from backend.loop.embedding import embed_for_round, note_lost_embeddings
from backend.loop.rounds import served_round
from backend.loop.sync import sync
from backend.settings import LoopSettings
from backend.store.leases import HeldLease, lease
from backend.store.tables import Project, Round
from strategies import Ranking


class RoundRun:
    """One worker's run through a round; what an earlier worker left behind is read back when needed."""

    def __init__(self, deployment: Deployment, round_id: int, held: HeldLease) -> None:
        self.deployment, self.round_id, self.held = deployment, round_id, held
        self.project_id = self.current.project_id

    @property
    def current(self) -> Round:
        """The round's row."""
        with self.deployment.database.read() as session:
            return session.get_one(Round, self.round_id)

    @cached_property
    def project(self) -> Project:
        """The project's row, as of the sync."""
        with self.deployment.database.read() as session:
            return session.get_one(Project, self.project_id)

    @cached_property
    def control(self) -> Control:
        """What the annotators are asked."""
        return read_labeling_config(self.project.label_config).controls[0]

    @cached_property
    def settings(self) -> LoopSettings:
        """The project's settings."""
        return LoopSettings.resolve(self.control.settings, self.project.extra_params)

    @cached_property
    def labeled(self) -> tuple[learning.LabeledSet, learning.LabeledSet]:
        """Training set and validation set."""
        return learning.labeled_sets(self.deployment, self.project_id, self.current.facts, self.control)

    @cached_property
    def committee(self) -> Committee | None:
        """The learner; None in cold start."""
        current = self.current
        return learning.committee_of(self.deployment, current) if current.trained else None

    @cached_property
    def pool(self) -> selection.UnlabeledPool:
        """The unlabeled tasks."""
        embedder = self.current.facts.get("embedder")
        return selection.unlabeled_pool(self.deployment, self.project_id, embedder)

    @cached_property
    def ranking(self) -> tuple[NDArray[np.int64], Ranking] | None:
        """The candidates and their ranking; None where there is no candidate."""
        if not len(self.pool.candidates):
            return None
        return selection.rank_candidates(
            self.deployment,
            self.current,
            self.control,
            self.pool,
            self.labeled,
            self.committee,
            self.settings,
            self.queue_size,
        )

    @property
    def window(self) -> int:
        """How many tasks to publish."""
        return publishing.window_size(self.settings, self.current.facts.get("new_labels", 0))

    @property
    def queue_size(self) -> int:
        """How many tasks the queue holds, the reserve included."""
        return selection.QUEUE_WINDOWS * self.window

    def note(self, **values: Any) -> None:
        """Write columns of the round's row."""
        with self.deployment.database.write() as session:
            session.execute(update(Round).where(Round.id == self.round_id).values(**values))

    def note_facts(self, **facts: Any) -> None:
        """Add to what is known about the round."""
        with self.deployment.database.write() as session:
            row = session.get_one(Round, self.round_id)
            row.facts = {**row.facts, **facts}


def sync_step(run: RoundRun) -> None:
    """Read project, tasks and annotations."""
    sync(run.deployment, run.project_id)
    labels = learning.labeled_count(run.deployment, run.project_id)
    served = served_round(run.deployment, run.project_id)
    before = int(served.facts.get("labels", 0)) if served else 0
    run.note(label_config=run.project.label_config)
    run.note_facts(labels=labels, new_labels=max(0, labels - before))


def embed(run: RoundRun) -> None:
    """Embed what the round needs; the rest is left to the background."""
    facts = embed_for_round(run.deployment, run.project_id, run.settings)
    embedder = facts["embedder"]
    if isinstance(embedder, str) and note_lost_embeddings(run.deployment, run.project_id, embedder):
        facts = embed_for_round(run.deployment, run.project_id, run.settings)
    run.note_facts(**facts)


def fit(run: RoundRun) -> None:
    """Train the committee, if there is enough to learn from."""
    training, _ = run.labeled
    missing = why_untrainable(training.targets, run.settings.minimum_labels, multi_label=run.control.multiple)
    run.note_facts(training=len(training.task_ids), cold_start=missing)
    if missing is None:
        committee = learning.fit(training, run.control, run.settings, seed=run.current.number)
        committee.save(run.deployment.model_folder(run.project_id, run.current.version))
    run.note(trained=missing is None)


def evaluate(run: RoundRun) -> None:
    """Measure the committee on the audit tasks and the ground truth."""
    _, validation = run.labeled
    measured = learning.measure(run.committee, validation) if run.committee else None
    run.note_facts(
        measured=measured,
        validation=len(validation.task_ids),
        disagreements=learning.disagreements(run.deployment, run.project_id),
    )


def score(run: RoundRun) -> None:
    """Compute what the strategy needs and rank the pool; kept in memory for the next step."""
    ranked = run.ranking
    run.note_facts(
        candidates=len(run.pool.candidates),
        ranked=0 if ranked is None else len(ranked[1].indices),
        strategy=run.settings.strategy if run.committee else run.settings.cold_start_strategy,
        **stopping.compare_on_pool(run.deployment, run.current, run.committee, run.pool.candidates),
    )


def select(run: RoundRun) -> None:
    """Store the queue."""
    share = run.settings.audit_share
    size = selection.write_queue(run.deployment, run.current, run.pool, run.ranking, share, run.queue_size)
    run.note_facts(queue=size, window=run.window, pool=run.pool.size)


def publish(run: RoundRun) -> None:
    """Flip the queue that Label Studio serves."""
    with lease(run.deployment.database, f"publish:{run.project_id}") as held:
        if held is None:
            raise publishing.PublishingElsewhere
        publishing.publish(run.deployment, run.current, run.window, held)


def clean(run: RoundRun) -> None:
    """Remove what earlier rounds left in Label Studio and on disk."""
    publishing.clean_up(run.deployment, run.current)
    models = run.deployment.project_folder(run.project_id) / "models"
    for folder in models.glob("round-*"):
        if folder.name != run.current.version:
            shutil.rmtree(folder, ignore_errors=True)


def decide(run: RoundRun) -> None:
    """Recommend to stop, or not."""
    run.note_facts(stop=stopping.recommend_stop(run.deployment, run.current, run.settings))


STEPS: dict[str, Callable[[RoundRun], None]] = {
    "sync": sync_step,
    "embed": embed,
    "fit": fit,
    "evaluate": evaluate,
    "score": score,
    "select": select,
    "publish": publish,
    "clean": clean,
    "decide": decide,
}
