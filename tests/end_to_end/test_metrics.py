"""What /metrics and the logs tell of a real loop, and of a server of several processes."""

import json
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from backend.demo.backend import BackendProcesses
from backend.demo.label_studio import free_port
from backend.loop.publishing import remaining
from backend.loop.steps import STEPS
from backend.server import MEMORY
from backend.store.tables import Round
from tests.conftest import DigitsProject
from tests.end_to_end.running_loop import PATIENCE, RunningLoop, digits_config, wait_for

DASHBOARD = Path(__file__).parents[2] / "grafana" / "active-learning.json"
FAST = {"labels_per_round": 8, "minimum_labels": 5, "debounce_seconds": 0, "window": 12, "audit_share": 0.25}
USER, PASSWORD = "prometheus", "a password"
RECORDED = ("active_learning_events_total", "ANNOTATION_CREATED", "recorded")

Samples = dict[tuple[str, ...], float]


def scrape(url: str, auth: tuple[str, str] | None = None) -> Samples:
    """The value by the sample's name and the values of its labels, in the labels' order."""
    answer = httpx.get(f"{url}/metrics", auth=auth, timeout=30, trust_env=False).raise_for_status()
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


@pytest.fixture(scope="module")
def labeled(
    loop: RunningLoop, make_project: Callable[..., DigitsProject]
) -> tuple[DigitsProject, Round, float]:
    """A project, its trained round, and how many labels were counted before its own."""
    project = make_project(60, label_config=digits_config(**FAST))
    loop.connect(project.id)
    loop.wait_for_round(project.id, 0)
    before = scrape(loop.processes.url).get(RECORDED, 0)
    annotator = loop.annotator(project.id)
    for task_id in loop.queue(project.id)[:8]:
        annotator.choose(task_id, "digit", "image", [str(project.digits[task_id])])
    return project, loop.wait_for_round(project.id, 1), before


def test_a_scrape_after_a_round_tells_what_the_store_holds(
    loop: RunningLoop, labeled: tuple[DigitsProject, Round, float]
) -> None:
    project, done, before = labeled
    number = str(project.id)

    def queue_agrees() -> Samples | None:  # it may be topped up right now
        found = scrape(loop.processes.url)
        left = tuple(
            found["active_learning_queue_" + part, number] for part in ("waiting_tasks", "reserve_tasks")
        )
        return found if left == remaining(loop.deployment, done) else None

    found = wait_for("a scrape of the queue", queue_agrees)
    assert found[RECORDED] == before + 8
    measured = done.facts["controls"]["digit"]["measured"]
    labels = ("digit", measured["metric"], number)
    low, high = measured["interval"]
    assert measured["total"] == 2
    expected = {
        ("active_learning_project_info", number, "active", "Digits"): 1,
        ("active_learning_tasks", number): 60,
        ("active_learning_labels", number): 8,
        ("active_learning_pool_tasks", number): 52,
        ("active_learning_waiting_labels", number): 0,
        ("active_learning_queue_window_tasks", number): done.facts["window"],
        ("active_learning_accuracy", *labels): measured["score"],
        ("active_learning_accuracy_lower", *labels): low,
        ("active_learning_accuracy_upper", *labels): high,
        ("active_learning_rounds_total", "done", number): done.number + 1,
        ("active_learning_rounds_total", "failed", number): 0,
        ("active_learning_round_seconds_count", number): done.number + 1,
        ("active_learning_workers",): 1,
    }
    for step in STEPS:
        expected["active_learning_last_round_step_seconds", number, step] = done.seconds[step]
    assert {key: found[key] for key in expected} == pytest.approx(expected)
    _the_round_kept_its_lines(done.log)


def _the_round_kept_its_lines(log: str) -> None:
    for line in log.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ \S", line), line
    for told in (
        "sync: 60 tasks, 8 labels, 8 of them new",
        "fit digit: 6 labels, 10 classes, 8 members",
        "evaluate digit: accuracy",
        "score digit: looked at",
        "select: a queue of",
        "publish: Label Studio serves",
        "decide: go on labeling",
        *(f"{step} took" for step in STEPS),
    ):
        assert told in log, told


def test_the_grafana_dashboard_asks_for_what_there_is(
    loop: RunningLoop, labeled: tuple[DigitsProject, Round, float]
) -> None:
    project, *_ = labeled
    # An error and a prediction, so that those are counted.
    assert httpx.get(f"{loop.processes.url}/nowhere", trust_env=False).status_code == 404
    asked = {"project": f"{project.id}.0", "label_config": digits_config(**FAST), "tasks": [{"id": 1}]}
    httpx.post(f"{loop.processes.url}/predict", json=asked, timeout=30, trust_env=False).raise_for_status()
    exposed = {name for name, *_ in scrape(loop.processes.url)}
    used = set(re.findall(r"active_learning_\w+", DASHBOARD.read_text()))
    assert len(used) > 20
    assert used <= exposed


@pytest.fixture
def server(tmp_path: Path) -> Iterator[BackendProcesses]:
    """A server without a worker or a Label Studio, which logs JSON and wants a password."""
    processes = BackendProcesses(
        {
            "MODEL_DIR": str(tmp_path),
            "PORT": str(free_port()),
            "LOG_FORMAT": "json",
            "BASIC_AUTH_USER": USER,
            "BASIC_AUTH_PASS": PASSWORD,
        }
    )
    processes.start_process("serve")
    try:
        yield processes
    finally:
        processes.stop()


def counters(server: BackendProcesses) -> list[Path]:
    """The folders in which the processes of a server count."""
    return list(MEMORY.glob(f"active-learning-{server.environment['PORT']}-*"))


def test_the_processes_of_a_server_add_up_what_they_count(server: BackendProcesses) -> None:
    health = ("active_learning_request_duration_seconds_count", "/health", "2xx")
    asked = 0

    def ask(_: object = None) -> bool:
        try:
            return httpx.get(f"{server.url}/health", timeout=PATIENCE, trust_env=False).is_success
        except httpx.ConnectError:  # it does not listen yet
            return False

    def counting() -> dict[int, Path]:  # processes that have counted a request
        files = [path for folder in counters(server) for path in folder.glob("histogram_*.db")]
        return {int(re.sub(r"\D", "", path.stem)): path for path in files}

    def both_asked() -> bool:
        nonlocal asked
        assert server.running("serve"), server.log_tail("serve")
        with ThreadPoolExecutor(8) as pool:
            asked += sum(pool.map(ask, range(16)))
        return len(counting()) >= 2

    wait_for("requests that both processes answer", both_asked)
    assert httpx.get(f"{server.url}/metrics", trust_env=False).status_code == 401
    for _ in range(4):  # whichever of them is asked
        found = scrape(server.url, (USER, PASSWORD))
        assert found[health] == asked
        assert found["active_learning_errors_total", "Refused"] == 1

    os.kill(next(iter(counting())), signal.SIGKILL)
    wait_for("a new process", lambda: both_asked() and len(counting()) == 3)
    assert scrape(server.url, (USER, PASSWORD))[health] == asked

    _, ended, _ = server.pids("serve")
    os.kill(ended, signal.SIGTERM)
    wait_for("the end of a process", lambda: ended not in server.pids("serve"))
    wait_for("another process", lambda: both_asked() and len(counting()) == 4)
    assert scrape(server.url, (USER, PASSWORD))[health] == asked
    (folder,) = counters(server)
    assert folder.stat().st_mode & 0o777 == 0o700
    server.stop()
    assert counters(server) == []
    lines = [json.loads(line) for line in server.log("serve").read_text().splitlines()]
    assert any("Booting worker" in line["message"] for line in lines)
    assert {"time", "level", "logger", "message"} <= set.intersection(*map(set, lines))


def test_a_server_that_cannot_start_leaves_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = BackendProcesses({"MODEL_DIR": str(tmp_path), "PORT": str(port)})
        server.start_process("serve")
        assert server.wait("serve", PATIENCE) == 1
    assert "in use" in server.log_tail("serve")
    assert counters(server) == []
