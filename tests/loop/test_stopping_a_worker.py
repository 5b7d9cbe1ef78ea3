"""A worker that is told to stop in the middle of a long computation."""

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from backend.demo.backend import BackendProcesses
from backend.demo.label_studio import free_port
from backend.loop.projection import LANDMARKS
from backend.store.leases import WORKER, holder, present
from backend.store.tables import Project, ProjectState, Round, RoundState, Task, now
from tests.conftest import new_deployment
from tests.end_to_end.running_loop import wait_for

SECONDS = 9.0  # in which it must have ended; a supervisor kills what takes ten


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[BackendProcesses]:
    """A backend, not started, whose only project has images for the largest t-SNE of a map, which takes a while."""
    deployment = new_deployment(tmp_path)
    digits = load_digits().data
    noisy = digits + np.random.default_rng(0).normal(size=digits.shape)
    pixels = np.concatenate([digits, noisy])[:LANDMARKS].astype("float32")
    with deployment.database.write() as session:
        session.add(Project(id=1, state=ProjectState.ACTIVE, synced_until=now(), label_config="<View/>"))
        session.flush()
        rows = [
            Task(project_id=1, id=task_id, source="a.png", embedded="pixels")
            for task_id in range(len(pixels))
        ]
        session.add_all(rows)
        facts = {"embedder": "pixels", "candidates": len(pixels)}
        done = Round(
            project_id=1, number=0, version="v", reason="", step="decide", state=RoundState.DONE, facts=facts
        )
        session.add(done)
    deployment.embeddings.append(1, "pixels", range(len(pixels)), pixels)
    nobody = f"http://127.0.0.1:{free_port()}"
    environment = {"LABEL_STUDIO_URL": nobody, "LABEL_STUDIO_API_KEY": "key"}
    stopped = BackendProcesses(environment | {"MODEL_DIR": str(tmp_path), "PORT": str(free_port())})
    yield stopped
    stopped.stop()


def test_it_ends_at_once_and_another_takes_its_work_up(processes: BackendProcesses, tmp_path: Path) -> None:
    database = new_deployment(tmp_path).database
    log = processes.log("worker")
    for number in range(1, 3):
        processes.start_process("worker")
        wait_for(
            "the map", lambda number=number: log.exists() and log.read_text().count("laying out") == number
        )
        assert holder(database, "map:1") is not None
        assert present(database, WORKER) == 1
        processes.signal("worker", signal.SIGTERM)
        assert processes.wait("worker", SECONDS) == 0
        assert holder(database, "map:1") is None
        assert present(database, WORKER) == 0
    assert "terminate called" not in log.read_text()
    assert "Traceback" not in log.read_text().partition("laying out")[2]
