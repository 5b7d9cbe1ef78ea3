"""The first step of a round: what Label Studio holds now, brought into the store.

Webhooks are hints; here the truth is read. Reading is incremental: tasks that changed since the last sync.
Where Label Studio's own counts then differ from ours (some of its changes leave no trace), all is read again.
"""

import logging
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, func, select, update

from backend.deployment import Deployment
from backend.labelstudio.client import Project as RemoteProject
from backend.labelstudio.client import Task as RemoteTask
from backend.labelstudio.labeling_config import LabelingConfig, read_labeling_config
from backend.labelstudio.metadata import metadata
from backend.labelstudio.results import is_ground_truth, read_target
from backend.loop.audit import random_order
from backend.loop.events import START_TRAINING, TASKS_CREATED, forget_covered, last_event, pending_events
from backend.settings import LoopSettings
from backend.store.database import upsert
from backend.store.ids import read_ids
from backend.store.tables import Event, Project, Task

log = logging.getLogger(__name__)

CHUNK = 500
# A change with an earlier time may become visible after one with a later time, while transactions overlap.
OVERLAP = timedelta(seconds=10)


def sync(deployment: Deployment, project_id: int) -> None:
    """Bring project, tasks and annotations up to date in the store.

    Raises:
        UnsupportedConfig: the labeling config holds nothing that the loop can learn.
        InvalidSettings: a setting of the project cannot be used.
        LabelStudioError: Label Studio cannot be read; the store then holds what was read before.
    """
    database, label_studio = deployment.database, deployment.label_studio
    covered = last_event(database, project_id)
    remote = label_studio.project(project_id)
    with database.read() as session:
        project = session.get_one(Project, project_id)
    config = read_labeling_config(remote.label_config)
    share = LoopSettings.resolve(config.settings, project.extra_params).audit_share

    if any(event.action == START_TRAINING for event in pending_events(database, project)):
        _look_again_at_broken(deployment, project_id)
    until = label_studio.latest_change(project_id) or remote.created_at
    # A changed number of annotations a task makes tasks labeled, or no longer so, without touching them.
    reread = (
        project.synced_until is None
        or remote.label_config != project.label_config
        or remote.annotations_per_task != project.annotations_per_task
    )
    since = None if reread or project.synced_until is None else project.synced_until - OVERLAP
    changed = label_studio.tasks(project_id, changed_since=since)
    _store_tasks(deployment, project_id, config, changed, share)
    # `labels_differ` passes these over; and where Label Studio's clock was put back, a change of now looks older.
    if told := _still_unread(deployment, project):
        _store_tasks(deployment, project_id, config, label_studio.tasks_by_id(project_id, told), share)
    if not _counts_agree(deployment, remote):
        _forget_deleted(deployment, project_id)
        if not reread and not _counts_agree(deployment, remote):
            log.info("sync: the counts differ from Label Studio's; reading everything")
            _store_tasks(deployment, project_id, config, label_studio.tasks(project_id), share)
    _draw_audit_again(deployment, project, share)
    with database.write() as session:
        session.execute(
            update(Project)
            .where(Project.id == project_id)
            .values(
                title=remote.title,
                label_config=remote.label_config,
                synced_until=until,
                synced_event=covered,
                synced_tasks=remote.task_count,
                synced_annotated=remote.annotated_count,
                annotations_per_task=remote.annotations_per_task,
                audit_share=share,
            )
        )
    forget_covered(database, project_id, covered)


def labels_differ(deployment: Deployment, project: Project) -> bool:
    """Whether the tasks that changed since the last sync are labeled or skipped otherwise than the store knows.

    Where they are not (storing a prediction also counts as a change of its task), they are not looked at again: the
    next sync reads those that an event names, and new ones of which no webhook told are named by an event here.
    """
    until = deployment.label_studio.latest_change(project.id)
    if until is None or project.synced_until is None or until <= project.synced_until:
        return False
    config = read_labeling_config(project.label_config)
    changed = deployment.label_studio.tasks(project.id, changed_since=project.synced_until - OVERLAP)
    new: list[int] = []
    for row in [_row(project.id, config, task) for task in changed]:
        with deployment.database.read() as session:
            task = session.get(Task, (project.id, row["id"]))
        if _differs(row, task):
            return True
        if task is None:
            new.append(row["id"])
    untold = sorted(set(new) - _added(deployment, project))
    with deployment.database.write() as session:
        if untold:
            session.add(Event(project_id=project.id, action=TASKS_CREATED, task_ids=untold))
        session.execute(update(Project).where(Project.id == project.id).values(synced_until=until))
    return False


def _differs(row: Mapping[str, Any], known: Task | None) -> bool:
    """Whether what Label Studio has of a task calls for a round: not where it is only new, or its skip was told."""
    if known is None:
        return row["target"] is not None
    compared = ["source", "target", "labeled", "ground_truth", "groups"]
    if not known.touched:
        compared.append("skips")
    return any(row[name] != getattr(known, name) for name in compared)


def _store_tasks(
    deployment: Deployment, project_id: int, config: LabelingConfig, tasks: Iterable[RemoteTask], share: float
) -> None:
    """Store tasks as they come, a chunk at a time."""
    chunk: list[dict[str, Any]] = []
    for task in tasks:
        chunk.append(_row(project_id, config, task))
        if len(chunk) == CHUNK:
            _store_chunk(deployment, project_id, chunk, share)
            chunk = []
    _store_chunk(deployment, project_id, chunk, share)


def _row(project_id: int, config: LabelingConfig, task: RemoteTask) -> dict[str, Any]:
    targets = {
        control.name: target
        for control in config.controls
        if (target := read_target(task.annotations, control)) is not None
    }
    source = config.image_source(task.data)
    return {
        "project_id": project_id,
        "id": task.id,
        "source": source or "",
        "labeled": task.is_labeled,
        "target": {name: target.to_json() for name, target in targets.items()} or None,
        "agreement": min((target.agreement for target in targets.values()), default=1.0),
        "ground_truth": is_ground_truth(task.annotations),
        "skips": len({a.get("completed_by") for a in task.annotations if a.get("was_cancelled")}),
        "touched": False,
        "groups": metadata(task.data, task.meta, config.image_key),
        "broken": None if source else f"The task has no image: its data lacks {config.image_key!r}.",
    }


def _store_chunk(deployment: Deployment, project_id: int, chunk: list[dict[str, Any]], share: float) -> None:
    """Insert or update tasks; one whose image changed must be embedded again."""
    ids = [row["id"] for row in chunk]
    draws = random_order(project_id, ids)
    with deployment.database.write() as session:
        known = {
            task.id: task
            for task in session.scalars(select(Task).where(Task.project_id == project_id, Task.id.in_(ids)))
        }
        for row, draw in zip(chunk, draws, strict=True):
            before = known.get(row["id"])
            same_image = before is not None and before.source == row["source"]
            row["embedded"] = before.embedded if before and same_image else None
            row["broken"] = row["broken"] or (before.broken if before and same_image else None)
            # Once labeled, a task keeps its part: one that the strategy chose can't become a random one.
            row["audit"] = before.audit if before and before.target else bool(draw < share)
        upsert(session, Task, chunk)


def _still_unread(deployment: Deployment, project: Project) -> list[int]:
    """Tasks that an event names, and that have not been read since."""
    ours = select(Task.id).where(Task.project_id == project.id)
    added = _added(deployment, project)
    with deployment.database.read() as session:
        if added:
            added.difference_update(read_ids(session, ours).tolist())
        return [*session.scalars(ours.where(Task.touched)), *sorted(added)]


def _added(deployment: Deployment, project: Project) -> set[int]:
    """Tasks that were added, by the events that no sync has covered yet."""
    events = pending_events(deployment.database, project)
    return {task_id for event in events if event.action == TASKS_CREATED for task_id in event.task_ids}


def _counts_agree(deployment: Deployment, before: RemoteProject) -> bool:
    """Whether we hold as much as Label Studio does.

    before: the project when the sync began. People go on working: what they change while we read is no difference.
    """
    ours = select(func.count()).select_from(Task).where(Task.project_id == before.id)
    with deployment.database.read() as session:
        tasks = session.scalar(ours) or 0
        annotated = session.scalar(ours.where(Task.target.is_not(None))) or 0
    # An annotation can hold nothing that we learn from, so ours may be fewer, but never more.
    if tasks == before.task_count and annotated <= before.annotated_count:
        return True
    after = deployment.label_studio.project(before.id)
    fewest, most = sorted((before.task_count, after.task_count))
    return fewest <= tasks <= most and annotated <= max(before.annotated_count, after.annotated_count)


def _forget_deleted(deployment: Deployment, project_id: int) -> None:
    """Delete the tasks that Label Studio no longer has."""
    remote = deployment.label_studio.task_ids(project_id)
    with deployment.database.read() as session:
        stored = set(read_ids(session, select(Task.id).where(Task.project_id == project_id)).tolist())
    gone = sorted(stored - remote)
    for start in range(0, len(gone), CHUNK):
        with deployment.database.write() as session:
            session.execute(
                delete(Task).where(Task.project_id == project_id, Task.id.in_(gone[start : start + CHUNK]))
            )


def _look_again_at_broken(deployment: Deployment, project_id: int) -> None:
    """Whoever mended the images presses Start training."""
    with deployment.database.write() as session:
        chosen = (Task.project_id == project_id) & Task.broken.is_not(None) & (Task.source != "")
        session.execute(update(Task).where(chosen).values(broken=None))


def _draw_audit_again(deployment: Deployment, project: Project, share: float) -> None:
    """After a change of the audit share: unlabeled tasks are drawn anew, labeled ones keep their part."""
    if share == project.audit_share:
        return
    unlabeled = select(Task.id, Task.audit).where(Task.project_id == project.id, Task.target.is_(None))
    with deployment.database.read() as session:
        rows = session.execute(unlabeled).all()
    drawn = random_order(project.id, [row.id for row in rows]) < share
    for audit in (True, False):
        changed = [row.id for row, now in zip(rows, drawn, strict=True) if now == audit != row.audit]
        for start in range(0, len(changed), CHUNK):  # a transaction each, so that webhooks need not wait
            chosen = (Task.project_id == project.id) & Task.id.in_(changed[start : start + CHUNK])
            with deployment.database.write() as session:
                session.execute(update(Task).where(chosen).values(audit=audit))
