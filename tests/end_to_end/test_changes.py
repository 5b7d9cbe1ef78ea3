"""What people do to a project while its loop runs: labels, tasks, the labeling config, the project itself."""

from collections.abc import Callable, Iterator
from datetime import datetime

import httpx
import pytest
from sqlalchemy import func, select

from backend.labelstudio.client import Task
from backend.loop.actions import change_settings, set_paused
from backend.loop.events import SETTINGS_CHANGED
from backend.loop.jobs import Jobs
from backend.loop.reconciliation import notice_missed_changes
from backend.loop.round import run_round
from backend.loop.round_run import RoundRun
from backend.loop.rounds import start_round
from backend.loop.steps import STEPS
from backend.loop.sync import sync
from backend.store.artifacts import project_artifacts
from backend.store.leases import lease
from backend.store.tables import ProjectState, QueueEntry, Round
from tests.conftest import DigitsProject, choice
from tests.end_to_end.command import quick_command, status
from tests.end_to_end.running_loop import PATIENCE, RunningLoop, digits_config, learned, wait_for
from tests.end_to_end.test_closed_loop import FAST, label

MakeProject = Callable[..., DigitsProject]


def start_training(loop: RunningLoop, http: httpx.Client, project_id: int) -> Round:
    """Press Start training, and wait for its round."""
    latest = loop.latest(project_id)
    assert latest is not None
    backend = loop.client.backends(project_id)[0]
    http.post(f"/api/ml/{backend.id}/train").raise_for_status()
    return loop.wait_for_round(project_id, latest.number + 1)


def connected(loop: RunningLoop, project: DigitsProject) -> None:
    loop.connect(project.id)
    loop.wait_for_round(project.id, 0)


def rounds(loop: RunningLoop, project_id: int) -> int:
    with loop.deployment.database.read() as session:
        query = select(func.count()).select_from(Round).where(Round.project_id == project_id)
        return session.scalar(query) or 0


def set_config(http: httpx.Client, project_id: int, *classes: str, **settings: object) -> None:
    config = digits_config(classes, **(FAST | settings))
    http.patch(f"/api/projects/{project_id}/", json={"label_config": config}).raise_for_status()


def published_results(loop: RunningLoop, http: httpx.Client, project_id: int) -> dict[int, list[str]]:
    """What the served predictions choose, by task."""
    found = http.get("/api/predictions/", params={"project": project_id}).raise_for_status().json()
    version = loop.served(project_id).version
    return {
        prediction["task"]: [name for region in prediction["result"] for name in region["value"]["choices"]]
        for prediction in found
        if prediction["model_version"] == version
    }


# Labels


def test_a_label_that_comes_while_a_sync_reads_does_not_have_it_read_everything(
    loop: RunningLoop,
    make_project: MakeProject,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A full read of a large project takes minutes, and slows Label Studio down: it would never catch up."""
    project = make_project(16, label_config=digits_config(**FAST))
    connected(loop, project)
    annotator, chosen = loop.annotator(project.id), loop.queue(project.id)[0]
    client = loop.deployment.label_studio
    look, read = client.latest_change, client.tasks
    since: list[datetime | None] = []

    def label_and_look(project_id: int) -> datetime | None:
        annotator.choose(chosen, "digit", "image", ["1"])
        return look(project_id)

    def note_and_read(project_id: int, *, changed_since: datetime | None = None) -> Iterator[Task]:
        since.append(changed_since)
        return read(project_id, changed_since=changed_since)

    monkeypatch.setattr(client, "latest_change", label_and_look)
    monkeypatch.setattr(client, "tasks", note_and_read)
    sync(loop.deployment, project.id)
    assert loop.task(project.id, chosen).target is not None
    assert since
    assert None not in since


def test_labels_changed_deleted_skipped_and_given_after_all(
    loop: RunningLoop, make_project: MakeProject, http: httpx.Client
) -> None:
    project = make_project(16, label_config=digits_config(**FAST))
    connected(loop, project)
    annotator = loop.annotator(project.id)
    changed, deleted, skipped, late, *_ = loop.queue(project.id)
    first = annotator.choose(changed, "digit", "image", ["1"])
    second = annotator.choose(deleted, "digit", "image", ["1"])
    annotator.skip(skipped)
    cancelled = annotator.skip(late)
    assert not {changed, deleted, skipped, late} & set(loop.queue(project.id))  # they leave it at once

    start_training(loop, http, project.id)
    assert loop.targets(project.id) == {changed: {"1": 1.0}, deleted: {"1": 1.0}}
    assert loop.queue(project.id)[-2:] in (
        [skipped, late],
        [late, skipped],
    )  # behind all that nobody has seen
    assert "an annotator skipped it" in reasons(loop, project.id)[skipped]

    http.patch(f"/api/annotations/{first}/", json={"result": choice(2)}).raise_for_status()
    http.delete(f"/api/annotations/{second}/").raise_for_status()
    http.patch(f"/api/annotations/{cancelled}/", json={"result": choice(3), "was_cancelled": False})
    wait_for("three events", lambda: len(loop.pending(project.id)) == 3)
    start_training(loop, http, project.id)
    assert loop.targets(project.id) == {changed: {"2": 1.0}, late: {"3": 1.0}}
    assert deleted in loop.queue(project.id)
    asked = annotator.next_task()
    assert asked is not None
    assert asked.id == loop.queue(project.id)[0]


def reasons(loop: RunningLoop, project_id: int) -> dict[int, str]:
    """Why each task is in the queue, as the store says."""
    with loop.deployment.database.read() as session:
        entries = select(QueueEntry).where(QueueEntry.round_id == loop.served(project_id).id)
        return {entry.task_id: entry.reason for entry in session.scalars(entries)}


def test_several_annotators_on_one_task(
    loop: RunningLoop, make_project: MakeProject, http: httpx.Client, new_annotator: Callable[[], str]
) -> None:
    project = make_project(16, label_config=digits_config(**FAST), maximum_annotations=3)
    connected(loop, project)
    team = [loop.annotator(project.id)] + [loop.annotator(project.id, new_annotator()) for _ in range(2)]
    agreed, split, partial, *_ = loop.queue(project.id)
    for annotator in team:
        annotator.choose(agreed, "digit", "image", ["4"])
    for annotator, digit in zip(team, ["1", "1", "7"], strict=True):
        annotator.choose(split, "digit", "image", [digit])
    team[0].choose(partial, "digit", "image", ["5"])
    done = start_training(loop, http, project.id)
    assert loop.targets(project.id) == {
        agreed: {"4": 1.0},
        split: {"1": pytest.approx(2 / 3), "7": pytest.approx(1 / 3)},
        partial: {"5": 1.0},
    }
    assert done.facts["labels"] == 3
    assert done.facts["disagreements"] == [split]
    assert f"Annotators disagree on 1 task: #{split}." in status(loop, project.id)
    # Whoever comes next completes what was begun, then gets the ranking.
    assert (asked := team[1].next_task())
    assert asked.id == partial
    team[1].choose(partial, "digit", "image", ["5"])
    team[2].choose(partial, "digit", "image", ["5"])
    assert (asked := team[1].next_task())
    assert asked.id == loop.queue(project.id)[0]

    # From now on one annotation is enough; what was said stays.
    before = loop.targets(project.id)
    half = loop.queue(project.id)[3]
    team[0].choose(half, "digit", "image", ["6"])
    http.patch(f"/api/projects/{project.id}/", json={"maximum_annotations": 1}).raise_for_status()
    start_training(loop, http, project.id)
    assert loop.targets(project.id) == before | {half: {"6": 1.0}}
    http.patch(f"/api/projects/{project.id}/", json={"maximum_annotations": 2}).raise_for_status()
    start_training(loop, http, project.id)
    assert loop.targets(project.id) == before | {half: {"6": 1.0}}


def test_labels_that_no_webhook_told_of_are_found(
    loop: RunningLoop, make_project: MakeProject, http: httpx.Client
) -> None:
    project = make_project(12, label_config=digits_config(**FAST))
    connected(loop, project)
    annotator = loop.annotator(project.id)
    ours = loop.client.webhooks(project.id)[0]
    first, second, *_ = loop.queue(project.id)

    silent = {"is_active": False, "actions": ours.actions}
    http.patch(f"/api/webhooks/{ours.id}/", json=silent).raise_for_status()

    def unheard(change: Callable[[], object]) -> None:
        """Do something of which no webhook tells; what the worker does once a minute follows at once."""
        before = rounds(loop, project.id)
        change()
        notice_missed_changes(loop.deployment, project.id)
        Jobs(loop.deployment).nudge(project.id)
        loop.wait_for_round(project.id, before)

    created: list[int] = []
    unheard(lambda: created.append(annotator.choose(first, "digit", "image", ["1"])))
    assert loop.targets(project.id) == {first: {"1": 1.0}}
    unheard(lambda: http.patch(f"/api/annotations/{created[0]}/", json={"result": choice(2)}))
    assert loop.targets(project.id) == {first: {"2": 1.0}}
    unheard(lambda: http.delete(f"/api/annotations/{created[0]}/"))
    assert loop.targets(project.id) == {}
    labeled = {"data": {"image": "/data/upload/none.png"}, "annotations": [{"result": choice(8)}]}
    unheard(lambda: http.post(f"/api/projects/{project.id}/import", json=[labeled]).raise_for_status())
    assert list(loop.targets(project.id).values()) == [{"8": 1.0}]
    unheard(lambda: http.delete(f"/api/tasks/{second}/"))
    assert second not in loop.queue(project.id)
    # Opening a task stores a prediction, which Label Studio counts as a change; nobody labeled anything.
    outside = http.get("/api/tasks/", params={"project": project.id}).json()["tasks"][-1]["id"]
    http.get(f"/api/tasks/{outside}/").raise_for_status()
    notice_missed_changes(loop.deployment, project.id)
    assert loop.pending(project.id) == []


def test_a_change_of_settings_here_is_noted_once(loop: RunningLoop, make_project: MakeProject) -> None:
    project = make_project(12, label_config=digits_config(**FAST))
    connected(loop, project)
    set_paused(loop.deployment, project.id, True)  # so that no round covers what is noted
    change_settings(loop.deployment, loop.project(project.id), {"strategy": "margin"})
    assert loop.pending(project.id) == [SETTINGS_CHANGED]  # Label Studio calls /setup with them, too
    assert loop.project(project.id).extra_params == {"strategy": "margin"}


def test_ground_truth_measures_the_model(
    loop: RunningLoop, make_project: MakeProject, http: httpx.Client
) -> None:
    project = make_project(24, label_config=digits_config(**FAST, audit_share=0))
    connected(loop, project)
    annotator = loop.annotator(project.id)
    queue = loop.queue(project.id)
    truth = queue[:2]
    for task_id in queue[:8]:
        annotation = annotator.choose(task_id, "digit", "image", [str(project.digits[task_id])])
        if task_id in truth:
            http.patch(f"/api/annotations/{annotation}/", json={"ground_truth": True}).raise_for_status()
    done = loop.wait_for_round(project.id, 1)
    if done.facts["labels"] < 8 or learned(done)["validation"] < 2:  # it began before the last was marked
        done = start_training(loop, http, project.id)
    assert (learned(done)["training"], learned(done)["validation"]) == (6, 2)
    assert learned(done)["measured"]["total"] == 2
    assert "on 2 tasks kept for measuring" in status(loop, project.id)


def test_where_all_is_ground_truth_most_of_it_trains(
    loop: RunningLoop, make_project: MakeProject, http: httpx.Client
) -> None:
    """Annotations that come with imported tasks: Label Studio counts them all as ground truth."""
    project = make_project(12, label_config=digits_config(**FAST, audit_share=0))
    connected(loop, project)
    images = http.get("/api/tasks/", params={"project": project.id, "fields": "all"}).json()["tasks"]
    again = [
        {
            "data": task["data"],
            "annotations": [{"result": choice(project.digits[task["id"]]), "ground_truth": True}],
        }
        for task in images
    ]
    http.post(f"/api/projects/{project.id}/import", json=again).raise_for_status()
    notice_missed_changes(loop.deployment, project.id)  # in a minute, the worker does
    Jobs(loop.deployment).nudge(project.id)
    done = loop.wait_for_round(project.id, 1)
    assert done.facts["labels"] == 12
    assert done.trained
    assert (learned(done)["training"], learned(done)["validation"]) == (8, 4)
    assert len(loop.queue(project.id)) == 12


# Tasks


def test_tasks_added_and_deleted(loop: RunningLoop, make_project: MakeProject, http: httpx.Client) -> None:
    source = make_project(40)
    data = [{"image": task.data["image"]} for task in loop.client.tasks(source.id)]
    empty = make_project(0, label_config=digits_config(**FAST | {"window": 20, "labels_per_round": 5}))
    loop.connect(empty.id)
    first = loop.wait_for_round(empty.id, 0)
    assert first.facts["queue"] == 0
    assert first.facts["stop"] is None
    assert "no tasks yet" in status(loop, empty.id)
    assert rounds(loop, empty.id) == 1

    storage = {"project": empty.id, "path": str(source.images), "use_blob_urls": True}
    http.post("/api/storages/localfiles", json=storage).raise_for_status()
    http.post(f"/api/projects/{empty.id}/import", json=data[:24]).raise_for_status()
    assert loop.wait_for_round(empty.id, 1).reason == "tasks were added"
    assert len(loop.queue(empty.id)) == 20
    assert loop.task(empty.id, loop.queue(empty.id)[0]).broken is None  # type: ignore[union-attr]

    # All that is published is deleted: the rest of the ranking follows, without a random task.
    window = loop.queue(empty.id)
    body = {"selectedItems": {"all": False, "included": window}}
    http.post(
        "/api/dm/actions", params={"id": "delete_tasks", "project": empty.id}, json=body
    ).raise_for_status()
    following = wait_for("the window to be topped up", lambda: len(q := loop.queue(empty.id)) == 4 and q)
    assert not set(following) & set(window)
    asked = loop.annotator(empty.id).next_task()
    assert asked is not None
    assert asked.id == following[0]

    http.post(f"/api/projects/{empty.id}/import", json=data[24:]).raise_for_status()
    loop.wait_for_round(empty.id, 2)
    assert len(loop.queue(empty.id)) == 20


def test_a_task_deleted_between_select_and_publish_costs_the_window_nothing_else(
    loop: RunningLoop, make_project: MakeProject, http: httpx.Client
) -> None:
    project = make_project(16, label_config=digits_config(**FAST | {"window": 10, "labels_per_round": 2}))
    connected(loop, project)
    with lease(
        loop.deployment.database, f"round:{project.id}", wait=PATIENCE
    ) as held:  # so the worker leaves it to us
        assert held is not None
        run = RoundRun(loop.deployment, start_round(loop.deployment, project.id, "a test", "sync").id, held)
        for step in list(STEPS)[: list(STEPS).index("publish")]:
            STEPS[step](run)
        run.note(step="publish")
        with loop.deployment.database.read() as session:
            chosen = select(QueueEntry.task_id).where(QueueEntry.round_id == run.round_id)
            queue = list(session.scalars(chosen.order_by(QueueEntry.rank)))
        hook = loop.client.webhooks(project.id)[0]
        silent = {"is_active": False, "actions": hook.actions}
        http.patch(f"/api/webhooks/{hook.id}/", json=silent).raise_for_status()
        for task_id in queue[1:4]:
            http.delete(f"/api/tasks/{task_id}/").raise_for_status()
        run_round(loop.deployment, run.round_id, held)
    assert loop.served(project.id).id == run.round_id
    expected = [queue[0], *queue[4:]]
    assert loop.queue(project.id) == expected[:10]
    assert loop.client.model_versions(project.id) == {loop.served(project.id).version: 10}


# The labeling config


def test_classes_added_renamed_and_removed(
    loop: RunningLoop, make_project: MakeProject, http: httpx.Client
) -> None:
    project = make_project(40, label_config=digits_config(**FAST, audit_share=0))
    connected(loop, project)
    annotator = loop.annotator(project.id)
    old = {task_id: digit for task_id, digit in project.digits.items() if digit in (1, 2)}
    some = [task_id for task_id in project.digits if task_id not in old][:8]
    for task_id in [*list(old)[:5], *some]:
        label(annotator, project, task_id)
    start_training(loop, http, project.id)
    before = loop.targets(project.id)
    assert len(before) == 13

    set_config(http, project.id, *["0", "one", "3", "4", "5", "6", "7", "8", "9", "ten"], audit_share=0)
    edited = loop.wait_for_round(project.id, loop.served(project.id).number + 1)
    assert edited.reason == "the labeling config was changed"
    assert edited.trained
    assert learned(edited)["training"] == 8  # nobody says 1 or 2 any more
    assert loop.targets(project.id).keys() == set(some)
    predicted = published_results(loop, http, project.id)
    assert predicted.keys() == set(loop.queue(project.id))
    assert {name for names in predicted.values() for name in names} <= set("03456789")
    assert all(predicted.values())
    assert not set(loop.queue(project.id)) & set(list(old)[:5])  # Label Studio asks nobody for them again

    new = loop.queue(project.id)[0]
    annotator.choose(new, "digit", "image", ["ten"])
    start_training(loop, http, project.id)
    assert loop.targets(project.id)[new] == {"ten": 1.0}

    set_config(http, project.id, *"0123456789", audit_share=0)
    back = loop.wait_for_round(project.id, loop.served(project.id).number + 1)
    assert loop.targets(project.id) == before
    assert learned(back)["training"] == 13
    assert loop.client.project(project.id).model_version == back.version


# The project


def test_a_deleted_project_stops_its_loop_and_no_other(
    loop: RunningLoop, make_project: MakeProject, http: httpx.Client
) -> None:
    doomed, other = (make_project(12, label_config=digits_config(**FAST)) for _ in range(2))
    for project in (doomed, other):
        connected(loop, project)
    http.delete(f"/api/projects/{doomed.id}/").raise_for_status()
    notice_missed_changes(loop.deployment, doomed.id)
    assert loop.project(doomed.id).state == ProjectState.GONE
    told = status(loop, doomed.id)
    assert f"no project {doomed.id}" in told
    assert f"active-learning disconnect --project {doomed.id}" in told
    label(loop.annotator(other.id), other, loop.queue(other.id)[0])
    assert start_training(loop, http, other.id).facts["labels"] == 1

    assert quick_command(loop, "disconnect", "--project", str(doomed.id)).code == 0
    assert quick_command(loop, "status", "--project", str(doomed.id)).code == 1
    assert not (loop.deployment.settings.model_dir / project_artifacts(doomed.id)).exists()


def test_a_project_deleted_while_its_round_waits(
    loop: RunningLoop, make_project: MakeProject, http: httpx.Client
) -> None:
    project = make_project(12, label_config=digits_config(**FAST))
    connected(loop, project)
    http.delete(f"/api/projects/{project.id}/").raise_for_status()
    with lease(loop.deployment.database, f"round:{project.id}", wait=PATIENCE) as held:
        assert held is not None
        started = start_round(loop.deployment, project.id, "a test", "sync")
        run_round(loop.deployment, started.id, held)
    latest = loop.latest(project.id)
    assert latest is not None
    assert latest.state == "failed"
    assert loop.project(project.id).state == ProjectState.GONE


def test_two_projects_at_once_do_not_mix(
    loop: RunningLoop, make_project: MakeProject, http: httpx.Client
) -> None:
    digits = make_project(24, label_config=digits_config(**FAST))
    parity = make_project(24, label_config=digits_config(("even", "odd"), **FAST))
    for project in (digits, parity):
        loop.connect(project.id)
    for project in (digits, parity):
        loop.wait_for_round(project.id, 0)
    one, other = loop.annotator(digits.id), loop.annotator(parity.id)
    for _ in range(8):
        label(one, digits, loop.queue(digits.id)[0])
        task_id = loop.queue(parity.id)[0]
        other.choose(task_id, "digit", "image", [("even", "odd")[parity.digits[task_id] % 2]])
    for project, classes in ((digits, set("0123456789")), (parity, {"even", "odd"})):
        done = loop.wait_for_round(project.id, 1)
        assert done.facts["labels"] == 8
        assert loop.targets(project.id).keys() <= project.digits.keys()
        assert {name for votes in loop.targets(project.id).values() for name in votes} <= classes
        predicted = published_results(loop, http, project.id)
        assert predicted.keys() == set(loop.queue(project.id)) <= project.digits.keys()
        assert {name for names in predicted.values() for name in names} <= classes


def test_our_own_changes_start_no_round(
    loop: RunningLoop, make_project: MakeProject, http: httpx.Client
) -> None:
    project = make_project(16, label_config=digits_config(**FAST))
    connected(loop, project)
    annotator = loop.annotator(project.id)
    for task_id in loop.queue(project.id)[:3]:
        label(annotator, project, task_id)
    start_training(loop, http, project.id)
    # Flips, sampling, and whatever else of the settings Label Studio tells us of, while delivering each at once.
    assert not loop.connect(project.id)
    http.patch(f"/api/projects/{project.id}/", json={"description": "new"}).raise_for_status()
    assert loop.pending(project.id) == []
    notice_missed_changes(loop.deployment, project.id)
    Jobs(loop.deployment).nudge(project.id)
    label(annotator, project, loop.queue(project.id)[0])
    assert start_training(loop, http, project.id).number == 2
    assert rounds(loop, project.id) == 3
