"""What else goes wrong around the loop: its servers die or stall, clocks jump, webhooks come twice, late or never.

As in `test_recovery`: real processes, the worker one that has accidents, and a proxy before Label Studio.
"""

import concurrent.futures
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import label_studio_sdk
import pytest
from sqlalchemy import select

from backend.demo.label_studio import LabelStudioServer
from backend.loop.events import SECRET_HEADER
from backend.store.tables import Round, RoundState, now
from tests.conftest import DigitsProject
from tests.end_to_end.faulty_worker import Faults
from tests.end_to_end.running_loop import RunningLoop, wait_for
from tests.end_to_end.test_recovery import SLOW, Ordeal, _damage
from tests.end_to_end.unreliable_proxy import Fault, UnreliableProxy
from tests.servers import PostgreSQL, Redis


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    server = PostgreSQL(tmp_path_factory.mktemp("postgresql"))
    yield server
    server.remove()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def ordeal(
    prepared_directory: Path, tmp_path_factory: pytest.TempPathFactory, postgresql: PostgreSQL, redis: Redis
) -> Iterator[Ordeal]:
    """A Label Studio, a server and a worker on PostgreSQL and Redis; each test leaves them running."""
    folder = tmp_path_factory.mktemp("faults")
    shutil.copytree(prepared_directory, folder / "label-studio")
    server = LabelStudioServer(folder / "label-studio", local_files=folder)
    with server:
        proxy = UnreliableProxy(server.url)
        with proxy.running():
            urls = {"LABEL_STUDIO_URL": proxy.url, "DATABASE_URL": postgresql.url, "REDIS_URL": redis.url}
            loop = RunningLoop.on(server, folder / "backend", **urls)
            running = Ordeal(loop, server, proxy, Faults(folder / "faults"), folder)
            running.start_worker("worker", running.faults)
            running.start_server()
            yield running
            loop.processes.stop()


def tell(ordeal: Ordeal, project: DigitsProject, action: str, *task_ids: int) -> httpx.Response:
    """Call the webhook as Label Studio does."""
    body: dict[str, object] = {"action": action, "project": {"id": project.id}, "annotation": {}}
    body |= {"tasks": [{"id": i} for i in task_ids]} if len(task_ids) > 1 else {"task": {"id": task_ids[0]}}
    headers = {SECRET_HEADER: ordeal.loop.project(project.id).webhook_secret}
    return httpx.post(f"{ordeal.loop.processes.url}/webhook", json=body, headers=headers, timeout=30)


def predict(ordeal: Ordeal, project: DigitsProject, task_id: int) -> httpx.Response:
    """Ask for a prediction as Label Studio does."""
    data = {"image": f"/data/local-files/?d={project.images.name}/0000.png"}
    body = {
        "project": f"{project.id}.1",
        "tasks": [{"id": task_id, "data": data}],
        "label_config": ordeal.loop.project(project.id).label_config,
    }
    return httpx.post(f"{ordeal.loop.processes.url}/predict", json=body, timeout=30)


def children(process: int) -> list[int]:
    """The processes that a process has started."""
    return [
        int(child)
        for thread in Path(f"/proc/{process}/task").iterdir()
        for child in (thread / "children").read_text().split()
    ]


def test_database_and_queue_of_jobs_are_gone_while_labels_come_in(
    ordeal: Ordeal, postgresql: PostgreSQL, redis: Redis
) -> None:
    """A round is under way; the labels of the outage are told of once, in vain, and found all the same."""
    project = ordeal.connect(60)
    secret = ordeal.loop.project(project.id).webhook_secret
    ordeal.faults.plan(("fit before", "wait"))
    with ordeal.watched_queue(project):
        labeled = ordeal.label(project, 6)
        ordeal.wait_at("fit before")
        postgresql.stop()
        redis.stop()
        labeled += ordeal.label(project, 3)
        body = {"action": "ANNOTATION_CREATED", "project": {"id": project.id}, "task": {"id": labeled[-1]}}
        url = f"{ordeal.loop.processes.url}/webhook"
        answer = httpx.post(url, json=body, headers={SECRET_HEADER: secret}, timeout=30)
        assert answer.status_code == 503
        assert "No label is lost" in answer.json()["error"]
        ordeal.faults.plan()  # the step ends, and finds no database to note it in
        log = ordeal.loop.processes.log("worker")
        wait_for("the worker to notice", lambda: "the loop waits, for the database" in log.read_text())
        redis.start()
        postgresql.start()
        ordeal.loop.wait_for_round(project.id, 1)
        wait_for("the labels", lambda: ordeal.loop.pending(project.id))  # nobody tells, or labels on
        ordeal.check(project, labeled)
    assert ordeal.loop.processes.running("worker")
    assert ordeal.loop.served(project.id).facts.get("failures") is None
    for process in ("serve", "worker"):
        assert "Traceback" not in ordeal.loop.processes.log(process).read_text()


def test_a_queue_of_jobs_that_hangs_holds_nobody_up(ordeal: Ordeal, redis: Redis) -> None:
    project = ordeal.connect(60, **SLOW)
    redis.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert tell(ordeal, project, "ANNOTATION_CREATED", *list(project.digits)[:1]).is_success
        assert time.monotonic() - began < 10  # it is given up after 3 s
        assert ordeal.loop.pending(project.id) == ["ANNOTATION_CREATED"]
    finally:
        redis.send_signal(signal.SIGCONT)
    ordeal.check(project, ordeal.label(project, 10))


def test_a_web_process_killed_in_the_middle_of_answers(ordeal: Ordeal) -> None:
    """What was acknowledged is in the store; what was cut short is in it whole, or not at all."""
    project = ordeal.connect(60)
    labeled = ordeal.label(project, 6)
    ordeal.loop.wait_for_round(project.id, 1)
    server = ordeal.loop.processes._processes["serve"].pid
    ids, ended = list(project.digits), threading.Event()
    outcomes: list[str] = []

    def ask(number: int) -> None:
        while not ended.is_set():
            try:
                assert tell(ordeal, project, "TASKS_CREATED", ids[number], ids[number + 1]).is_success
                outcomes.append("acknowledged")
                shown = predict(ordeal, project, ids[number])
                assert shown.is_success
                assert len(shown.json()["results"]) == 1
            except httpx.TransportError:
                outcomes.append("cut short")

    ordeal.faults.plan(("sync before", "wait"))  # a sync forgets events, which are to be counted
    with concurrent.futures.ThreadPoolExecutor(6) as pool, ordeal.watched_queue(project):
        asking = [pool.submit(ask, number) for number in range(6)]
        try:
            for kills in range(20):
                if kills >= 3 and "cut short" in outcomes:
                    break
                wait_for("two web processes", lambda: len(children(server)) == 2)
                before = len(outcomes)
                wait_for("answers", lambda before=before: len(outcomes) > before + 8)
                os.kill(random.choice(children(server)), signal.SIGKILL)
                labeled += ordeal.label(project, 1)
        finally:
            ended.set()
        for done in asking:
            done.result()
    assert "cut short" in outcomes
    stored = ordeal.loop.pending(project.id).count("TASKS_CREATED")
    acknowledged = outcomes.count("acknowledged")
    assert acknowledged <= stored <= acknowledged + outcomes.count("cut short")
    assert predict(ordeal, project, labeled[0]).json()["results"][0]["result"]
    ordeal.faults.plan()
    ordeal.check(project, labeled)


def test_label_studio_is_overloaded_at_every_kind_of_call(ordeal: Ordeal) -> None:
    project = ordeal.connect(60)
    kinds = [
        r"GET /api/projects/\d+/\?",
        r"GET /api/tasks/.*ordering",
        r"GET .*/model-versions",
        r"POST .*/import/predictions",
        r"PATCH /api/projects/",
        r"DELETE .*/model-versions",
    ]
    ordeal.proxy.faults = [Fault(kind, deed) for kind in kinds for deed in ("429 1", "500", "half")]
    with ordeal.watched_queue(project):
        labeled = ordeal.label(project, 6)
        ordeal.loop.wait_for_round(project.id, 1)
        ordeal.check(project, labeled)
    assert ordeal.proxy.faults == []
    assert "failures" not in ordeal.loop.served(project.id).facts


def test_label_studio_says_when_to_come_again(ordeal: Ordeal) -> None:
    project = ordeal.connect(60)
    ordeal.proxy.faults = [Fault(r"POST .*/import/predictions", "429 60")]
    labeled = ordeal.label(project, 6)
    ordeal.wait_for_state(project, RoundState.WAITING, "publish")
    latest = ordeal.loop.latest(project.id)
    assert latest is not None
    assert latest.not_before is not None
    assert latest.not_before - now() > timedelta(seconds=30)  # by itself, it would wait half a second
    assert "in 60 s" in ordeal.status(project)
    ordeal.faults.shift_clock(60)  # until the test ends
    ordeal.check(project, labeled)


def test_the_clock_jumps_forward_and_back(ordeal: Ordeal) -> None:
    project = ordeal.connect(60)
    ordeal.faults.plan(("fit before", "wait"))
    labeled = ordeal.label(project, 6)
    ordeal.wait_at("fit before")
    ordeal.faults.shift_clock(3600)  # while the round holds its lease
    ordeal.proxy.faults = [Fault(r"POST .*/import/predictions", "429 60")]
    ordeal.faults.plan()
    ordeal.wait_for_state(project, RoundState.WAITING, "publish")
    ordeal.faults.shift_clock(0)  # while it waits for a moment that is now an hour away
    ordeal.loop.wait_for_round(project.id, 1)
    labeled += ordeal.label(project, 6)
    ordeal.loop.wait_for_round(project.id, 2)
    # A round that failed in the future is tried again for what comes now.
    ordeal.faults.shift_clock(3600)
    ordeal.faults.plan(*[("fit before", "raise")] * 3)
    labeled += ordeal.label(project, 6)
    ordeal.wait_for_state(project, RoundState.FAILED)
    ordeal.faults.shift_clock(0)
    labeled += ordeal.label(project, 1)
    ordeal.loop.wait_for_round(project.id, 4)
    ordeal.check(project, labeled)


def test_webhooks_that_come_twice_late_or_out_of_order(ordeal: Ordeal) -> None:
    project = ordeal.connect(60, **SLOW)
    labeled = ordeal.label(project, 4)
    sdk = label_studio_sdk.LabelStudio(base_url=ordeal.server.url, api_key=ordeal.server.api_key)
    deleted = ordeal.loop.queue(project.id)[-1]
    sdk.tasks.delete(id=str(deleted))
    wait_for("the deletion to be told", lambda: "TASKS_DELETED" in ordeal.loop.pending(project.id))
    for task_id in [*labeled, *labeled, deleted, 10**6]:  # twice; after its deletion; never heard of
        assert tell(ordeal, project, "ANNOTATION_CREATED", task_id).is_success
    assert tell(ordeal, project, "ANNOTATION_UPDATED", labeled[0]).is_success
    assert tell(ordeal, project, "TASKS_CREATED", labeled[0], deleted).is_success
    # That is six tasks, and ten are needed for a round.
    ordeal.train(project)
    ordeal.loop.wait_for_round(project.id, 1)
    for task_id in labeled:  # late: a sync has covered them
        assert tell(ordeal, project, "ANNOTATION_CREATED", task_id).is_success
    ordeal.train(project)
    ordeal.loop.wait_for_round(project.id, 2)
    with ordeal.loop.deployment.database.read() as session:
        rounds = select(Round.reason).where(Round.project_id == project.id).order_by(Round.id)
        reasons = list(session.scalars(rounds))
    assert reasons == ["the project was connected", *["someone pressed Start training"] * 2]
    ordeal.check(project, labeled)
    assert ordeal.loop.served(project.id).facts["labels"] == 4
    assert ordeal.loop.task(project.id, deleted) is None
    assert ordeal.loop.task(project.id, 10**6) is None


def test_a_damaged_model_is_asked_for_predictions(ordeal: Ordeal) -> None:
    project = ordeal.connect(60)
    labeled = ordeal.label(project, 6)
    ordeal.loop.wait_for_round(project.id, 1)
    _damage(ordeal.model_folder(project))
    asked = predict(ordeal, project, labeled[0])
    assert asked.is_success
    assert [shown["result"] for shown in asked.json()["results"]] == [[]]
    assert ordeal.loop.wait_for_round(project.id, 2).reason == "a file of the last round was damaged"
    assert predict(ordeal, project, labeled[0]).json()["results"][0]["result"]
    ordeal.check(project, labeled)


def test_a_damaged_table_of_embeddings_gets_new_ones(ordeal: Ordeal) -> None:
    project = ordeal.connect(60)
    labeled = ordeal.label(project, 6)
    ordeal.loop.wait_for_round(project.id, 1)
    _damage(ordeal.loop.deployment.settings.model_dir / "embeddings" / f"project-{project.id}")
    sdk = label_studio_sdk.LabelStudio(base_url=ordeal.server.url, api_key=ordeal.server.api_key)
    added = [{"image": f"/data/local-files/?d={project.images.name}/0000.png"}]
    sdk.projects.import_tasks(id=project.id, request=added)
    with ordeal.watched_queue(project):
        labeled += ordeal.label(project, 6)
        assert ordeal.loop.wait_for_round(project.id, 2).facts["candidates"] > 30
        ordeal.check(project, labeled)


@pytest.fixture(autouse=True)
def no_more_faults(ordeal: Ordeal) -> Iterator[None]:
    """A test that fails leaves the others alone."""
    yield
    ordeal.proxy.faults.clear()
    ordeal.faults.shift_clock(0)
    ordeal.faults.plan()
