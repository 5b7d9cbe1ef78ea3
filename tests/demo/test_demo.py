"""`active-learning demo`, as `make demo` runs it."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from backend.demo.label_studio import free_port
from tests import stores

PROGRAM = Path(sys.executable).parent / "active-learning"
PATIENCE = 280  # seconds; the machine may be busy


@pytest.fixture
def folder(tmp_path: Path, prepared_directory: Path) -> Path:
    """A folder in which the demo finds a Label Studio that need not be migrated any more."""
    shutil.copytree(prepared_directory, tmp_path / "data" / "demo" / "label-studio")
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a demo; one that still runs at the end of the test is killed, with what it has started."""
    demos: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        demos.append(
            subprocess.Popen(
                [PROGRAM, "demo", *arguments],
                cwd=folder,
                env=os.environ | stores.SQLITE | {"COLUMNS": "200"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        )
        return demos[-1]

    yield start
    for demo in demos:
        if demo.poll() is None:
            started = Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()
            for process in (demo.pid, *map(int, started)):  # each of a group of its own
                with suppress(ProcessLookupError):
                    os.killpg(process, signal.SIGKILL)
            demo.wait()


def answers(url: str) -> bool:
    try:
        httpx.get(url, timeout=2)
    except httpx.HTTPError:
        return False
    return True


@pytest.mark.timeout(700)
def test_the_demo_plays_the_annotator_then_resumes_and_stops_all_on_ctrl_c(
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    port, backend_port = free_port(), free_port()
    with socket.socket() as occupied:
        occupied.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        occupied.bind(("127.0.0.1", port))
        occupied.listen()
        playing = start("--annotate", "32", "--port", str(port), "--backend-port", str(backend_port))
        told, _ = playing.communicate(timeout=PATIENCE)
    assert playing.returncode == 0, told
    assert f"Port {port} is in use" in told
    assert re.search(r"Round \d+: 3\d labels, accuracy", told), told
    # Labels, the loop's order, random order.
    rows = re.findall(r"(\d+) │ +([\d.]+)% │ +([\d.]+)%", told)
    assert [int(row[0]) for row in rows] == [20], told
    assert all(20 < float(share) <= 100 for row in rows for share in row[1:])

    resumed = start("--port", str(port), "--backend-port", str(backend_port))
    assert resumed.stdout is not None
    lines = []
    for line in resumed.stdout:
        lines.append(line)
        if "Ctrl-C stops everything" in line:
            break
    told = "".join(lines)
    (url,) = re.findall(r"Label Studio:\s+(http\S+)/projects/1\b", told)  # the same project as before
    assert answers(f"{url}/health")
    assert answers(f"http://127.0.0.1:{backend_port}/health")
    os.killpg(resumed.pid, signal.SIGINT)  # as a terminal does
    rest, _ = resumed.communicate(timeout=60)
    assert resumed.returncode == 0, told + rest
    assert "Stopped" in rest
    assert not answers(f"{url}/health")
    assert not answers(f"http://127.0.0.1:{backend_port}/health")


def test_a_worker_that_cannot_run_is_told(
    start: Callable[..., subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACTIVE_LEARNING_EMBEDDING", "no_such_backbone")
    demo = start("--port", str(free_port()), "--backend-port", str(free_port()))
    assert demo.stdout is not None
    for line in demo.stdout:
        if "no_such_backbone" in line:
            break
    else:
        raise AssertionError("the demo does not tell that the backbone does not exist")
    os.killpg(demo.pid, signal.SIGINT)
    demo.communicate(timeout=60)
