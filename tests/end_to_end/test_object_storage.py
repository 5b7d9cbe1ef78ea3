"""The loop on several machines: server and worker have folders of their own, and share URLs alone."""

from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import httpx
import pytest

from backend.demo.backend import BackendProcesses
from backend.demo.label_studio import LabelStudioServer
from backend.loop.actions import roll_back, set_paused
from backend.loop.jobs import Jobs
from backend.store.artifacts import models
from tests.conftest import DigitsProject
from tests.end_to_end.running_loop import RunningLoop, digits_config, wait_for
from tests.end_to_end.test_closed_loop import FAST, label
from tests.object_storage import BUCKET, S3Server, s3_server
from tests.stores import servers


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    with s3_server(tmp_path) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def machines(label_studio: LabelStudioServer, tmp_path: Path, s3: S3Server) -> Iterator[RunningLoop]:
    """A machine that serves and one that works, with nothing in common but addresses."""
    store = servers().create()
    running = RunningLoop.on(label_studio, tmp_path / "serving", STORAGE_URL=s3.url, **store)
    working = BackendProcesses(running.processes.environment | {"MODEL_DIR": str(tmp_path / "working")})
    try:
        running.processes.start_process("serve")
        working.start_process("worker")
        wait_for("the server", running.processes.answers)
        yield running
    finally:
        working.stop()
        running.processes.stop()


def test_machines_that_share_only_addresses_close_the_loop(
    machines: RunningLoop,
    s3: S3Server,
    make_project: Callable[..., DigitsProject],
    http: httpx.Client,
    tmp_path: Path,
) -> None:
    config = digits_config(**FAST | {"window": 10, "labels_per_round": 6, "embedding": "self-supervised"})
    project = make_project(70, label_config=config)
    machines.connect(project.id)
    machines.wait_for_round(project.id, 0)
    annotator = machines.annotator(project.id)
    for number in (1, 2):
        for task_id in machines.queue(project.id)[:6]:
            label(annotator, project, task_id)
        assert machines.wait_for_round(project.id, number).trained

    # The server answers by the model that the worker has trained, on embeddings of the embedder that it has trained.
    outside = machines.without_prediction(project.id)
    opened = http.get(f"/api/tasks/{outside}", params={"project": project.id}).raise_for_status().json()
    (prediction,) = opened["predictions"]
    assert prediction["model_version"] == machines.served(project.id).version
    assert prediction["result"]
    for machine in ("serving", "working"):
        assert not {"embeddings", "projects", "state.db", "jobs.db"} & {
            path.name for path in (tmp_path / machine).iterdir()
        }

    bucket = boto3.resource("s3").Bucket(BUCKET)

    def stored(version: str) -> str:
        return f"team-a/{models(project.id)}/{version}/digit.zip"

    # Someone goes back to an earlier model: it is kept under the new version as well.
    roll_back(machines.deployment, project.id, 1)
    Jobs(machines.deployment).nudge(project.id)
    back = machines.wait_for_round(project.id, 3)
    assert back.reason == "someone went back to the model of round 1"
    earlier = next(one.key for one in bucket.objects.all() if f"/{models(project.id)}/round-1-" in one.key)
    assert bucket.Object(stored(back.version)).e_tag == bucket.Object(earlier).e_tag

    # A model that is damaged is trained anew, although the worker still has a copy of it.
    set_paused(machines.deployment, project.id, False)
    damaged = bucket.Object(stored(machines.served(project.id).version))
    damaged.put(Body=bytes(damaged.content_length))
    for task_id in machines.queue(project.id)[:16]:
        annotator.skip(task_id)
    assert machines.wait_for_round(project.id, 4).reason == "a file of the last round was damaged"
    assert len(machines.targets(project.id)) == 12
