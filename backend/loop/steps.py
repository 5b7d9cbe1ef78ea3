"""The steps of a round. Each may be repeated: it does its work anew from what the store and the disk hold.

Each logs what a person wants to know of it; the round keeps these lines.
"""

import logging
from collections.abc import Callable
from typing import Any

from backend.learners.tasks import why_untrainable
from backend.loop import learning, publishing, selection, stopping
from backend.loop.balance import labeled_classes, metadata_counts, queued_metadata
from backend.loop.embedding import embed_for_round, note_broken, note_lost_embeddings
from backend.loop.evaluation import measure
from backend.loop.opinions import keep_opinions
from backend.loop.round_run import ControlRun, RoundRun
from backend.loop.rounds import CLEANED, LEARNER_OF, rounds_with_models, served_round
from backend.loop.sync import sync
from backend.store.artifacts import models
from backend.store.leases import lease

log = logging.getLogger(__name__)

MODELS_KEPT = 5  # of the newest rounds, so that one can go back to them
EMBEDDING_FACTS = ("embedder", "embedder_folder", "learner_dimensions", "to_embed")
TOPPING_UP = 10.0  # seconds, at the most, that a round waits while the queue before it is topped up
NOT_LEARNED_THEN = "the round whose model is taken had not learned this"


def sync_step(run: RoundRun) -> None:
    """Read project, tasks and annotations."""
    sync(run.deployment, run.project_id)
    labels = learning.labeled_count(run.deployment, run.project_id)
    served = served_round(run.deployment, run.project_id)
    before = int(served.facts.get("labels", 0)) if served else 0
    run.note(label_config=run.project.label_config)
    new = max(0, labels - before)
    run.note_facts(labels=labels, new_labels=new)
    log.info("sync: %d tasks, %d labels, %d of them new", run.project.synced_tasks, labels, new)


def embed(run: RoundRun) -> None:
    """Embed what the round needs; the rest is left to the background."""
    if (earlier := run.learners_taken_from) is not None:
        if earlier.version in run.deployment.artifacts.names(models(run.project_id)):
            run.note_facts(**{name: earlier.facts.get(name) for name in EMBEDDING_FACTS})
            return
        log.warning("embed: the model of round %d is no longer there; this round trains one", earlier.number)
        run.note_facts(**{LEARNER_OF: None})
        del run.learners_taken_from  # read again
    facts = embed_for_round(run.deployment, run.project_id, run.settings)
    embedder = facts["embedder"]
    if isinstance(embedder, str) and note_lost_embeddings(run.deployment, run.project_id, embedder):
        facts = embed_for_round(run.deployment, run.project_id, run.settings)
    run.note_facts(**facts)
    log.info("embed: %s; %d images are left to the background", embedder or "no image", facts["to_embed"])


def fit(run: RoundRun) -> None:
    """Train the learner of each control that has enough to learn from."""
    take = _fit if run.learners_taken_from is None else _take_over
    noted = {one.control.name: take(run, one) for one in run.controls}
    run.note_of_controls(noted)
    run.note(trained=any(facts["trained"] for facts in noted.values()))


def _fit(run: RoundRun, one: ControlRun) -> dict[str, Any]:
    while True:
        training, _ = one.labeled
        missing = why_untrainable(one.control, training.targets, one.settings.minimum_labels)
        if missing is None:
            try:
                learner = learning.fit(
                    run.deployment, run.current, training, one.control, one.settings, run.note_progress
                )
            except learning.BrokenExample as broken:
                note_broken(run.deployment, run.project_id, broken.task_id, str(broken))
                del one.labeled  # read again, without it
                continue
            with run.deployment.artifacts.writing(
                learning.learner_artifact(run.current, one.control)
            ) as folder:
                learner.save(folder)
            counts = len(training), len(learner.classes), one.settings.members
            log.info("fit %s: %d labels, %d classes, %d members", one.control.name, *counts)
        else:
            log.info("fit %s: cold start: %s", one.control.name, missing)
        return {
            "task": one.control.task,
            "training": len(training),
            "cold_start": missing,
            "trained": missing is None,
        }


def _take_over(run: RoundRun, one: ControlRun) -> dict[str, Any]:
    """Have the learner of an earlier round."""
    earlier = run.learners_taken_from
    assert earlier is not None
    facts = learning.control_facts(earlier, one.control)
    if facts.get("trained"):
        source = learning.learner_artifact(earlier, one.control)
        target = learning.learner_artifact(run.current, one.control)
        if target != source:
            run.deployment.artifacts.copy(source, target)
    return {"trained": False, "cold_start": NOT_LEARNED_THEN, "training": 0, "task": one.control.task} | {
        name: facts[name] for name in ("task", "training", "cold_start", "trained") if name in facts
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
        if measured:
            told = measured["metric"], measured["score"], *measured["interval"], measured["total"]
            log.info("evaluate %s: %s %.3f (%.3f to %.3f) on %d tasks", one.control.name, *told)
    run.note_of_controls(noted)
    run.note_facts(**learning.disagreements(run.deployment, run.project_id))


def score(run: RoundRun) -> None:
    """Compute what the strategies need and rank the pool; kept in memory for the next step."""
    ranking, noted = run.ranking, {}
    for one in run.controls:
        task_ids, answers = one.pool
        looked_at = len(task_ids)
        chosen = one.settings.strategy if one.learner else one.settings.cold_start_strategy
        log.info("score %s: looked at %d images, ranked by %s", one.control.name, looked_at, chosen)
        if one.learner and answers is not None:
            keep_opinions(run.deployment, run.current, one.control, one.learner, task_ids, answers)
        noted[one.control.name] = {
            "strategy": chosen,
            "looked_at": looked_at,
            **stopping.compare_on_pool(
                run.deployment, run.current, one.control, one.learner, task_ids, answers
            ),
        }
    run.note_of_controls(noted)
    run.note_facts(candidates=len(run.pool.candidates), ranked=len(ranking))


def select(run: RoundRun) -> None:
    """Store the queue."""
    share = run.settings.audit_share
    size = selection.write_queue(run.deployment, run.current, run.pool, run.ranking, share, run.queue_size)
    run.note_facts(queue=size, window=run.window, pool=run.pool.size)
    run.note_of_controls(
        {one.control.name: {"classes": labeled_classes(one.control, one.labeled)} for one in run.controls}
    )
    labeled = [groups for part in run.controls[0].labeled for groups in part.groups]
    run.note_facts(
        metadata={
            "labeled": metadata_counts(labeled),
            "queue": queued_metadata(run.deployment, run.current),
        }
    )
    log.info("select: a queue of %d tasks, of %d that are unlabeled", size, run.pool.size)


def publish(run: RoundRun) -> None:
    """Flip the queue that Label Studio serves."""
    with lease(run.deployment.database, f"publish:{run.project_id}", wait=TOPPING_UP) as held:
        if held is None:
            raise publishing.PublishingElsewhere
        publishing.publish(run.deployment, run.current, run.window, held)


def decide(run: RoundRun) -> None:
    """Recommend to stop, or not."""
    stop = stopping.recommend_stop(run.deployment, run.current, run.config.controls, run.settings)
    run.note_facts(stop=stop)
    log.info("decide: %s", f"you may stop: {stop}" if stop else "go on labeling")


def clean(run: RoundRun) -> None:
    """Remove what earlier rounds left in the storage, and in a lull in Label Studio."""
    run.note_facts(**{CLEANED: publishing.clean_up(run.deployment, run.current)})
    newest = rounds_with_models(run.deployment, run.project_id)[:MODELS_KEPT]
    kept = {one.version for one in newest} | {run.current.version}
    for version in run.deployment.artifacts.names(models(run.project_id)):
        if version not in kept:
            run.deployment.artifacts.delete(f"{models(run.project_id)}/{version}")


STEPS: dict[str, Callable[[RoundRun], None]] = {
    "sync": sync_step,
    "embed": embed,
    "fit": fit,
    "evaluate": evaluate,
    "score": score,
    "select": select,
    "publish": publish,
    "decide": decide,
    "clean": clean,  # last, since it may wait for people who label
}
