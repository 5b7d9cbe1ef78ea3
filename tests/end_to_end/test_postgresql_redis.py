"""The same loop with its state in PostgreSQL and its jobs in Redis, as docker-compose.yml runs it."""

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy

from backend.demo.label_studio import LabelStudioServer, free_port
from tests.conftest import DigitsProject
from tests.end_to_end.running_loop import RunningLoop, digits_config
from tests.end_to_end.test_closed_loop import FAST, label


def program(name: str) -> str:
    """A server's executable; CI must have it, elsewhere its absence skips the test."""
    found = shutil.which(name) or next(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), None)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have {name}")
        pytest.skip(f"{name} is not installed on this machine")
    return found


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    initdb, postgres = program("initdb"), program("postgres")
    # PostgreSQL refuses to run as root; its folder must then be reachable for another user.
    user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
    folder = Path("/tmp") / f"postgresql-{free_port()}" if user else tmp_path_factory.mktemp("postgresql")
    folder.mkdir(exist_ok=True)
    if user:
        shutil.chown(folder, user.pw_uid, user.pw_gid)
    as_user = {"user": user.pw_uid, "group": user.pw_gid, "cwd": folder} if user else {}
    data, port = folder / "data", free_port()
    subprocess.run(
        [initdb, "-D", str(data), "-A", "trust", "-U", "postgres", "-N"],
        check=True,
        capture_output=True,
        **as_user,
    )
    command = [postgres, "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-F"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, **as_user)
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    try:
        for _ in range(100):
            try:
                sqlalchemy.create_engine(url.replace("postgresql", "postgresql+pg8000")).connect().close()
                break
            except sqlalchemy.exc.SQLAlchemyError:
                time.sleep(0.1)
        yield url
    finally:
        server.send_signal(signal.SIGINT)  # "fast": does not wait for the clients to leave
        server.wait()
        if user:
            shutil.rmtree(folder)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    folder = tmp_path_factory.mktemp("redis")
    command = [program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def loop(
    label_studio: LabelStudioServer, tmp_path: Path, postgresql: str, redis: str
) -> Iterator[RunningLoop]:
    running = RunningLoop.on(label_studio, tmp_path, DATABASE_URL=postgresql, REDIS_URL=redis)
    with running.processes:
        yield running


def test_the_loop_closes(loop: RunningLoop, make_project: Callable[..., DigitsProject]) -> None:
    project = make_project(40, label_config=digits_config(**FAST))
    assert loop.connect(project.id)
    loop.wait_for_round(project.id, 0)
    annotator = loop.annotator(project.id)
    for number in range(2):
        for task_id in loop.queue(project.id)[:8]:
            asked = annotator.next_task()
            assert asked is not None
            assert asked.id == task_id
            label(annotator, project, task_id)
        assert loop.wait_for_round(project.id, number + 1).trained
    assert len(loop.targets(project.id)) == 16
    assert not (loop.deployment.settings.model_dir / "state.db").exists()
    assert not (loop.deployment.settings.model_dir / "jobs.db").exists()
