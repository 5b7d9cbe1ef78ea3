"""The adapter under Label Studio's own `label-studio-ml` server; where that isn't installed, under one in its place.

The package is published on GitHub alone: `make label-studio-ml` installs it, where GitHub can be reached.
"""

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from backend.demo.label_studio import LabelStudioServer
from tests.conftest import make_digits_project
from tests.end_to_end.running_loop import RunningLoop, digits_config, wait_for
from tests.end_to_end.test_closed_loop import FAST, label

BIN = Path(sys.executable).parent
ADAPTER = Path(__file__).parents[2] / "backend" / "model.py"
STAND_IN = Path(__file__).parent / "stand_in"
WAYS = ["start", "gunicorn"] if find_spec("label_studio_ml") else []
WSGI = """from backend.model import ActiveLearning
from label_studio_ml.api import init_app
app = init_app(ActiveLearning)
"""


@pytest.fixture(params=[*WAYS, "stand-in"])
def loop(
    request: pytest.FixtureRequest, label_studio: LabelStudioServer, tmp_path: Path
) -> Iterator[RunningLoop]:
    """The worker as always; as server `label-studio-ml`, run in either of its two ways, or what stands in for it."""
    running = RunningLoop.on(label_studio, tmp_path / "backend")
    program = server(request.param, tmp_path / "served", str(running.deployment.settings.port))
    processes = running.processes
    try:
        processes.start_process("serve", program)
        processes.start_process("worker")
        wait_for("the server", lambda: is_up(processes.url) or None)
        yield running
    finally:
        processes.stop()


def server(way: str, folder: Path, port: str) -> list[str]:
    """The command that serves a folder, which this makes."""
    gunicorn = [str(BIN / "gunicorn"), "--chdir", str(folder), "--bind", f"127.0.0.1:{port}", "_wsgi:app"]
    if way == "stand-in":
        folder.mkdir()
        (folder / "_wsgi.py").write_text(WSGI)
        return [*gunicorn, "--pythonpath", str(STAND_IN)]
    command = str(BIN / "label-studio-ml")
    create = [command, "create", str(folder), "--script", f"{ADAPTER}:ActiveLearning"]
    subprocess.run(create, check=True, capture_output=True, cwd=folder.parent)  # it leaves a cache there
    return gunicorn if way == "gunicorn" else [command, "start", str(folder), "--port", port]


def is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2).is_success
    except httpx.HTTPError:
        return False


def test_the_loop_closes_under_that_server(
    loop: RunningLoop, label_studio: LabelStudioServer, local_files: Path
) -> None:
    config = digits_config(**FAST | {"window": 10, "labels_per_round": 6})
    project = make_digits_project(label_studio, local_files, 40, label_config=config)
    loop.connect(project.id)
    loop.wait_for_round(project.id, 0)
    annotator = loop.annotator(project.id)
    for task_id in loop.queue(project.id)[:6]:
        asked = annotator.next_task()
        assert asked is not None
        assert asked.id == task_id
        label(annotator, project, task_id)
    assert loop.wait_for_round(project.id, 1).trained
    asked = annotator.next_task()
    assert asked is not None
    assert asked.id == loop.queue(project.id)[0]
    assert asked.predictions[0]["result"][0]["value"]["choices"]

    # A task outside the window is predicted by that server, on request.
    outside = loop.without_prediction(project.id)
    headers = {"Authorization": loop.client.authorization()}
    opened = httpx.get(
        f"{loop.label_studio.url}/api/tasks/{outside}",
        params={"project": project.id},
        headers=headers,
        timeout=60,
    )
    prediction = opened.raise_for_status().json()["predictions"][0]
    assert prediction["model_version"] == loop.served(project.id).version
    assert 0.5 <= prediction["score"] <= 1
    assert prediction["result"][0]["value"]["choices"]

    # An event without the project's secret is not believed.
    forged = {
        "action": "ANNOTATION_CREATED",
        "project": {"id": project.id, "label_config": config},
        "task": {"id": outside},
        "annotation": {"id": 10**6, "result": []},
    }
    refused = httpx.post(f"{loop.processes.url}/webhook", json=forged, timeout=60).raise_for_status()
    assert refused.json()["result"]["status"].startswith("refused")
