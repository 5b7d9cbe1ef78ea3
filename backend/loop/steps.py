"""The steps of a round. Each may be repeated: it does its work anew from what the store and the disk hold."""

import shutil
from collections.abc import Callable
from typing import Any

from backend.learners.tasks import why_untrainable
from backend.loop import learning, publishing, selection, stopping
from backend.loop.embedding import embed_for_round, note_broken, note_lost_embeddings
from backend.loop.evaluation import measure
from backend.loop.round_run import ControlRun, RoundRun
from backend.loop.rounds import served_round
from backend.loop.sync import sync
from backend.store.leases import lease


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
    """Train the learner of each control that has enough to learn from."""
    noted = {one.control.name: _fit(run, one) for one in run.controls}
    run.note_of_controls(noted)
    run.note(trained=any(facts["trained"] for facts in noted.values()))


def _fit(run: RoundRun, one: ControlRun) -> dict[str, Any]:
    while True:
        training, _ = one.labeled
        missing = why_untrainable(one.control, training.targets, one.settings.minimum_labels)
        if missing is None:
            try:
                learner = learning.fit(run.deployment, run.current, training, one.control, one.settings)
            except learning.BrokenExample as broken:
                note_broken(run.deployment, run.project_id, broken.task_id, str(broken))
                del one.labeled  # read again, without it
                continue
            learner.save(learning.learner_folder(run.deployment, run.current, one.control))
        return {
            "task": one.control.task,
            "training": len(training),
            "cold_start": missing,
            "trained": missing is None,
        }


def evaluate(run: RoundRun) -> None:
    """Measure the learners on the audit tasks and the ground truth."""
    noted = {}
    for one in run.controls:
        _, validation = one.labeled
        measured = (
            measure(run.deployment, run.current, one.control, one.learner, validation)
            if one.learner
            else None
        )
        noted[one.control.name] = {"measured": measured, "validation": len(validation)}
    run.note_of_controls(noted)
    run.note_facts(disagreements=learning.disagreements(run.deployment, run.project_id))


def score(run: RoundRun) -> None:
    """Compute what the strategies need and rank the pool; kept in memory for the next step."""
    ranking, noted = run.ranking, {}
    for one in run.controls:
        noted[one.control.name] = {
            "strategy": one.settings.strategy if one.learner else one.settings.cold_start_strategy,
            "looked_at": len(one.pool[0]),
            **stopping.compare_on_pool(run.deployment, run.current, one.control, one.learner, *one.pool),
        }
    run.note_of_controls(noted)
    run.note_facts(candidates=len(run.pool.candidates), ranked=len(ranking))


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
    run.note_facts(
        stop=stopping.recommend_stop(run.deployment, run.current, run.config.controls, run.settings)
    )


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
