"""What the loop of a project is doing, and why the queue is as it is, in words."""

from sqlalchemy import func, select

from backend.deployment import Deployment
from backend.labelstudio.client import LabelStudioError
from backend.loop.connection import UNCERTAINTY_SAMPLING
from backend.loop.events import pending_events
from backend.loop.publishing import remaining
from backend.loop.round import pause_until_due
from backend.loop.rounds import latest_round, served_round
from backend.loop.triggers import labels_waiting
from backend.settings import LoopSettings
from backend.store.leases import holder
from backend.store.tables import Project, ProjectState, QueueEntry, Round, RoundState, Task

NEXT_SHOWN = 5  # tasks of the queue that are told with their reasons


def describe(deployment: Deployment, project: Project, settings: LoopSettings | None) -> list[str]:
    """Sentences about a project, the most urgent first."""
    if project.state == ProjectState.CONNECTING:
        return [
            f"Being connected. {project.problem or 'A worker finishes it: is `active-learning worker` running?'}"
        ]
    if project.state == ProjectState.GONE:
        return [
            f"Not to be found in Label Studio: {project.problem} "
            f"`active-learning disconnect --project {project.id}` forgets it."
        ]
    if project.state != ProjectState.ACTIVE:
        return ["Disconnected."]
    sentences = [f"Problem: {project.problem}"] if project.problem else []
    sentences.append(_activity(deployment, project, settings or LoopSettings()))
    served = served_round(deployment, project.id)
    if served is not None:
        sentences += _served(deployment, served)
        sentences += _queue(deployment, served)
    sentences += _deviations(deployment, project, served)
    sentences += _broken(deployment, project.id)
    return sentences


def _activity(deployment: Deployment, project: Project, settings: LoopSettings) -> str:
    latest = latest_round(deployment, project.id)
    if latest is None:
        return "The first round has not begun: is `active-learning worker` running?"
    if latest.state == RoundState.RUNNING:
        if holder(deployment.database, f"round:{project.id}") is None:
            return (
                f"Round {latest.number} was interrupted at the step {latest.step}; it goes on when "
                "`active-learning worker` runs. No label is lost."
            )
        return f"Round {latest.number} is running, because {latest.reason}; step: {latest.step}."
    if latest.state == RoundState.WAITING:
        return (
            f"Round {latest.number} waits at the step {latest.step}, next try in "
            f"{pause_until_due(latest):.0f} s: {latest.error} No label is lost; the old queue stays."
        )
    waiting = labels_waiting(pending_events(deployment.database, project))
    needed = max(0, settings.labels_per_round - waiting)
    following = f"The next round starts after {needed} more labels, or with Start training."
    if latest.state == RoundState.FAILED:
        return (
            f"Round {latest.number} failed: {latest.error} The old queue stays. The next label starts another "
            "try, and so does Start training."
        )
    return f"Round {latest.number} is done. {following}"


def _served(deployment: Deployment, served: Round) -> list[str]:
    facts = served.facts
    if not served.trained:
        learned = (
            f"Cold start: {facts.get('cold_start')}. Until then the queue is ordered by the images alone."
        )
    else:
        learned = f"The model was trained on {facts['training']} labels."
        if measured := facts.get("measured"):
            low, high = measured["interval"]
            learned += (
                f" Its accuracy is {measured['accuracy']:.1%} ({low:.1%} to {high:.1%}) "
                f"on {measured['total']} randomly drawn tasks."
            )
        else:
            learned += " None of the randomly drawn tasks is labeled yet, so its accuracy is unknown."
    sentences = [learned]
    if facts.get("stop"):
        sentences.append(f"You may stop: {facts['stop']}.")
    if disagreements := facts.get("disagreements"):
        shown = ", ".join(f"#{task_id}" for task_id in disagreements[:NEXT_SHOWN])
        sentences.append(f"Annotators disagree on {len(disagreements)} tasks: {shown}.")
    if to_embed := facts.get("to_embed"):
        with deployment.database.read() as session:
            lacking = Task.embedded.is_distinct_from(facts["embedder"]) & Task.broken.is_(None)
            left = session.scalar(select(func.count()).where(Task.project_id == served.project_id, lacking))
        if left:
            sentences.append(f"{left} of {to_embed} images are still to be embedded in the background.")
    return sentences


def _queue(deployment: Deployment, served: Round) -> list[str]:
    waiting, reserve = remaining(deployment, served)
    sentences = [
        f"Label Studio serves {served.version}: {waiting} tasks in the window, {reserve} in reserve, "
        f"ranked by {served.facts.get('strategy')}."
    ]
    unlabeled = (Task.project_id == served.project_id) & Task.target.is_(None) & ~Task.labeled & ~Task.touched
    with deployment.database.read() as session:
        entries = session.scalars(
            select(QueueEntry)
            .join(Task, (Task.id == QueueEntry.task_id) & unlabeled)
            .where(QueueEntry.round_id == served.id, QueueEntry.published)
            .order_by(QueueEntry.rank)
            .limit(NEXT_SHOWN)
        ).all()
    return sentences + [f"Next: task #{entry.task_id}, {entry.reason}." for entry in entries]


def _deviations(deployment: Deployment, project: Project, served: Round | None) -> list[str]:
    """What in Label Studio keeps the queue from following the ranking."""
    try:
        remote = deployment.label_studio.project(project.id)
    except LabelStudioError as error:
        return [f"Label Studio: {error}"]
    sentences = []
    if remote.sampling != UNCERTAINTY_SAMPLING:
        sentences.append(
            f"The queue does not follow the ranking: the project's task sampling is {remote.sampling!r}. "
            f"`active-learning connect --project {project.id}` sets it to uncertainty sampling."
        )
    if served and served.facts.get("queue") and remote.model_version != served.version:
        sentences.append(
            f"The queue does not follow the ranking: the project's model version is {remote.model_version!r}. "
            "Press Start training to publish anew."
        )
    return sentences


def _broken(deployment: Deployment, project_id: int) -> list[str]:
    broken = (Task.project_id == project_id) & Task.broken.is_not(None)
    with deployment.database.read() as session:
        count = session.scalar(select(func.count()).where(broken)) or 0
        first = session.execute(
            select(Task.id, Task.broken).where(broken).order_by(Task.id).limit(NEXT_SHOWN)
        ).all()
    if not count:
        return []
    return [f"{count} images cannot be used. Mend them, then press Start training."] + [
        f"Task #{task_id}: {reason}" for task_id, reason in first
    ]
