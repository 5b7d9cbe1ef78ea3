"""What the loop of a project is doing, and why the queue is as it is, in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, func, select

from backend.deployment import Deployment
from backend.labelstudio.client import LabelStudioError
from backend.loop.connection import UNCERTAINTY_SAMPLING
from backend.loop.events import pending_events
from backend.loop.publishing import remaining, waiting_entries
from backend.loop.registration import backends_at, has_webhook
from backend.loop.round import pause_until_due
from backend.loop.rounds import latest_round, served_round
from backend.loop.triggers import labels_waiting
from backend.settings import LoopSettings
from backend.store.leases import WORKER, holder, present
from backend.store.tables import Project, ProjectState, QueueEntry, Round, RoundState, Task, now

UNREACHED = "DI"  # Label Studio's letters for a backend that does not answer it
NEXT_SHOWN = 5  # tasks of the queue that are told with their reasons


def describe(deployment: Deployment, project: Project, settings: LoopSettings | None) -> list[str]:
    """Sentences about a project, the most urgent first."""
    if (idle := why_idle(project)) is not None:
        return [idle]
    sentences = activity(deployment, project, settings or LoopSettings())
    served = served_round(deployment, project.id)
    sentences += deviations(deployment, project, served)
    if served is not None:
        sentences += learned(deployment, served)
        sentences += _queue(deployment, served)
    return sentences + _broken(deployment, project.id)


def why_idle(project: Project) -> str | None:
    """Why a project has no running loop; None: it has one."""
    match project.state:
        case ProjectState.CONNECTING if project.problem:
            return f"Not connected yet; a worker tries again every few seconds. {project.problem}"
        case ProjectState.CONNECTING:
            return "Being connected. A worker finishes it: is `active-learning worker` running?"
        case ProjectState.GONE:
            return (
                f"The loop has stopped. {project.problem} If it was deleted, `active-learning disconnect --project "
                f"{project.id}` deletes what is stored of it here."
            )
        case ProjectState.DISCONNECTING:
            return "Being disconnected. A worker finishes it: is `active-learning worker` running?"
        case ProjectState.DISCONNECTED:
            return f"Disconnected. `active-learning connect --project {project.id}` starts the loop again."
    return None


def activity(deployment: Deployment, project: Project, settings: LoopSettings) -> list[str]:
    """What the loop of a connected project does now, and what comes next."""
    latest = latest_round(deployment, project.id)
    sentences = []
    if not present(deployment.database, WORKER):
        sentences.append(
            "No worker runs, so labels are noted and nothing else happens: start `active-learning worker`."
        )
    if project.problem and (latest is None or latest.error != project.problem):
        sentences.append(f"Problem: {project.problem}")
    return [*sentences, _activity(deployment, project, latest, settings)]


def _activity(deployment: Deployment, project: Project, latest: Round | None, settings: LoopSettings) -> str:
    if latest is None:
        return "The first round has not begun: is `active-learning worker` running?"
    if latest.state == RoundState.RUNNING:
        if holder(deployment.database, f"round:{project.id}") is None:
            return (
                f"Round {latest.number} was interrupted at the step {latest.step}; it goes on when "
                "`active-learning worker` runs. No label is lost."
            )
        progress = _progress(deployment, latest)
        return f"Round {latest.number} is running, because {latest.reason}; step: {latest.step}, {progress}."
    if latest.state == RoundState.WAITING:
        return (
            f"Round {latest.number} waits at the step {latest.step}, next try in "
            f"{pause_until_due(latest):.0f} s: {_sentence(latest.error)} No label is lost; the old queue stays."
        )
    if latest.state == RoundState.FAILED:
        done = f"Round {latest.number} failed: {_sentence(latest.error)} The old queue stays."
    else:
        done = f"Round {latest.number} is done."
    waiting = labels_waiting(pending_events(deployment.database, project))
    if project.paused:
        return (
            f"{done} The loop is paused: labels are noted ({waiting} since) and the queue is served, but nothing is "
            "trained until you resume it, or press Start training for a single round."
        )
    needed = max(0, settings.labels_per_round - waiting)
    have = f"{_count(waiting, 'new label')} since. " if waiting else ""
    if not needed:
        return f"{done} {have}The next round starts now."
    return f"{done} {have}The next round starts after {_count(needed, 'more label')}, or with Start training."


def _progress(deployment: Deployment, running: Round) -> str:
    """How far the round is, by what the one before it took."""
    with deployment.database.read() as session:
        before = session.scalar(
            select(Round)
            .where(
                Round.project_id == running.project_id,
                Round.state == RoundState.DONE,
                Round.number < running.number,
            )
            .order_by(Round.number.desc())
            .limit(1)
        )
    if running.step == "fit" and (share := running.facts.get("progress")):
        return f"{share:.0%} of the training done"
    elapsed = (now() - running.started_at).total_seconds()
    if before is None:
        return f"{elapsed:.0f} s so far"
    return f"{elapsed:.0f} s of about {max(1.0, sum(before.seconds.values())):.0f}"


def learned(deployment: Deployment, served: Round) -> list[str]:
    """What the served model has learned, and what follows from it."""
    facts = served.facts
    controls = facts.get("controls", {})
    sentences = []
    for name, of_control in controls.items():
        which = f"{name}: " if len(controls) > 1 else ""
        sentences.append(which + _learned_of(of_control))
    if facts.get("stop"):
        sentences.append(f"You may stop: {facts['stop']}.")
    if disagreements := facts.get("disagreements"):
        count = facts.get("disagreement_count", len(disagreements))  # rounds of before noted them all
        shown = ", ".join(f"#{task_id}" for task_id in disagreements[:NEXT_SHOWN])
        more = ", ..." if count > NEXT_SHOWN else ""
        sentences.append(f"Annotators disagree on {_count(count, 'task')}: {shown}{more}.")
    if to_embed := facts.get("to_embed"):
        with deployment.database.read() as session:
            lacking = Task.embedded.is_distinct_from(facts["embedder"]) & Task.broken.is_(None)
            left = session.scalar(select(func.count()).where(Task.project_id == served.project_id, lacking))
        if left:
            sentences.append(f"{left} of {to_embed} images are still to be embedded in the background.")
    return sentences


def _learned_of(facts: Mapping[str, Any]) -> str:
    """What there is to say of the learner of one control."""
    if not facts["trained"]:
        return f"Cold start: {facts['cold_start']}. Until then the queue is ordered by the images alone."
    learned = f"The model was trained on {_count(facts['training'], 'label')}."
    measured = facts.get("measured")
    if not measured:
        return (
            learned
            + " No task that measures it (audit or ground truth) is labeled yet: how good it is, is unknown."
        )
    low, high = measured["interval"]
    return (
        f"{learned} Its {measured['metric']} is {measured['score']:.1%} ({low:.1%} to {high:.1%}) "
        f"on {_count(measured['total'], 'task')} kept for measuring."
    )


def _queue(deployment: Deployment, served: Round) -> list[str]:
    waiting, reserve = remaining(deployment, served)
    with deployment.database.read() as session:
        if not session.scalar(select(func.count()).where(Task.project_id == served.project_id)):
            return ["The project has no tasks yet: import some."]
        entries = session.scalars(
            waiting_entries(served).where(QueueEntry.published).order_by(QueueEntry.rank).limit(NEXT_SHOWN)
        ).all()
    sentence = (
        f"Label Studio serves {served.version}: {_count(waiting, 'task')} in the window, {reserve} in reserve, "
        f"ranked by {_strategies(served)}."
    )
    return [sentence] + [f"Next: task #{entry.task_id}, {entry.reason}." for entry in entries]


def deviations(deployment: Deployment, project: Project, served: Round | None) -> list[str]:
    """What in Label Studio keeps the loop from hearing of labels, or the queue from following the ranking."""
    try:
        remote = deployment.label_studio.project(project.id)
        backends = backends_at(deployment, project.id, project.backend_url)
        told_of_labels = has_webhook(deployment, project)
    except LabelStudioError as error:
        return [str(error)]
    sentences = []
    if not backends:
        sentences.append(
            "The model was removed in Label Studio: a worker disconnects the project in a minute."
        )
    elif backends[0].state == UNREACHED:
        sentences.append(
            "Label Studio gets no answer from this backend's server, so it tells of no label: is `active-learning "
            f"serve` running, and does {project.backend_url} reach it from where Label Studio runs?"
        )
    elif error_message := backends[0].error_message:
        sentences.append(f"Label Studio cannot use the backend: {_sentence(error_message)}")
    if not told_of_labels:
        sentences.append(
            "The webhook that tells of new labels was removed or changed in Label Studio, so they are only found "
            f"within a minute. `active-learning connect --project {project.id}` puts it back."
        )
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


def broken_images(
    deployment: Deployment, project_id: int, most: int
) -> tuple[Sequence[Row[int, str | None]], int]:
    """The first images that cannot be used, `most` of them, each with its reason; and how many there are."""
    broken = (Task.project_id == project_id) & Task.broken.is_not(None)
    with deployment.database.read() as session:
        count = session.scalar(select(func.count()).where(broken)) or 0
        found = select(Task.id, Task.broken).where(broken).order_by(Task.id).limit(most)
        return session.execute(found).all(), count


def _broken(deployment: Deployment, project_id: int) -> list[str]:
    first, count = broken_images(deployment, project_id, NEXT_SHOWN)
    if not count:
        return []
    mend = "Mend it" if count == 1 else "Mend them"
    return [f"{_count(count, 'image')} cannot be used. {mend}, then press Start training."] + [
        f"Task #{task_id}: {reason}" for task_id, reason in first
    ]


def _strategies(served: Round) -> str:
    """The strategies of all controls, each once."""
    specs = [_strategy(facts["strategy"]) for facts in served.facts.get("controls", {}).values()]
    return ", ".join(dict.fromkeys(specs))


def _strategy(spec: Any) -> str:
    """A strategy as people write it down: its name, and its parts in brackets."""
    if not isinstance(spec, Mapping):
        return str(spec)
    return ", ".join(f"{name} ({_parts(parts)})" if parts else str(name) for name, parts in spec.items())


def _parts(parts: Any) -> str:
    if not isinstance(parts, Mapping):
        return str(parts)
    return ", ".join(f"{name}: {_strategy(part)}" for name, part in parts.items())


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _sentence(text: str | None) -> str:
    text = (text or "").strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."
