"""Server and worker shut in as docker-compose.yml shuts them in: not as root, and all read-only but /data and /tmp.

Bubblewrap takes Docker's place, and the folder of the test that of /data.
"""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from backend.demo.label_studio import LabelStudioServer
from tests.conftest import DigitsProject
from tests.end_to_end.running_loop import RunningLoop, digits_config, wait_for
from tests.end_to_end.test_closed_loop import FAST, train_first_model
from tests.servers import program

DOCKERFILE = (Path(__file__).parents[2] / "Dockerfile").read_text()
SHARED_MEMORY = 64 * 2**20  # bytes of /dev/shm, Docker's default
READ_ONLY = re.compile(r"Read-only file system|Permission denied|Errno (?:13|30)")


def _variables(folder: Path) -> dict[str, str]:
    """What the image sets."""
    stated = re.search(r"^ENV (.+(?:\\\n.+)*)", DOCKERFILE, re.MULTILINE)
    assert stated is not None
    return dict(re.findall(r"(\w+)=(\S+)", stated[1].replace("/data", str(folder))))


def _shut_in(folder: Path, command: str) -> list[str]:
    user = re.search(r"useradd --uid (\d+)", DOCKERFILE)
    assert user is not None
    # fmt: off
    return [
        program("bwrap"), "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev",
        "--size", str(SHARED_MEMORY), "--tmpfs", "/dev/shm", "--tmpfs", "/tmp", "--bind", str(folder), str(folder),
        "--unshare-user", "--uid", user[1], "--gid", user[1], "--cap-drop", "ALL",
        str(Path(sys.executable).parent / "active-learning"), command,
    ]
    # fmt: on


@pytest.fixture
def container(
    label_studio: LabelStudioServer, tmp_path: Path, store: dict[str, str]
) -> Iterator[RunningLoop]:
    folder = tmp_path / "data"
    running = RunningLoop.on(label_studio, folder, **store)
    running.processes.environment |= _variables(folder) | {"HOME": "/home"}
    try:
        for command in ("serve", "worker"):
            running.processes.start_process(command, _shut_in(folder, command))
        wait_for("the server", running.processes.answers)
        yield running
    finally:
        running.processes.stop()


def test_the_loop_closes_and_pages_and_map_are_shown(
    container: RunningLoop, make_project: Callable[..., DigitsProject], http: httpx.Client
) -> None:
    config = digits_config(**FAST | {"window": 10, "labels_per_round": 6, "embedding": "self-supervised"})
    project = make_project(70, label_config=config)
    train_first_model(container, project, labels=6)
    outside = container.without_prediction(project.id)
    opened = http.get(f"/api/tasks/{outside}", params={"project": project.id}).raise_for_status().json()
    assert [one["model_version"] for one in opened["predictions"]] == [container.served(project.id).version]

    pages = httpx.Client(base_url=container.processes.url, timeout=60, trust_env=False)
    of_project = f"/projects/{project.id}"
    wait_for("the map", lambda: pages.get(f"{of_project}/map/state").status_code == httpx.codes.NO_CONTENT)
    parts = ("", "/curves", "/queue", "/labels", "/rounds", "/settings", "/map", "/map/points")
    for path in (
        "/metrics",
        *(of_project + part for part in parts),
        f"{of_project}/tasks/{outside}/thumbnail",
    ):
        assert pages.get(path).status_code == httpx.codes.OK, path
    for command in ("serve", "worker"):
        assert container.processes.running(command)
        shut_in = Path(f"/proc/{container.processes.pids(command)[-1]}")  # the first is Bubblewrap itself
        assert re.search(r"^\S+ / \S+ ro\b", (shut_in / "mounts").read_text(), re.MULTILINE)
        assert re.search(r"^CapEff:\s+0+$", (shut_in / "status").read_text(), re.MULTILINE)
        assert not READ_ONLY.findall(container.processes.log(command).read_text())
