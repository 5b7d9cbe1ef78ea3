"""The same loop with its state in PostgreSQL and its jobs in Redis, as docker-compose.yml runs it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backend.demo.label_studio import LabelStudioServer
from tests.conftest import DigitsProject
from tests.end_to_end.running_loop import RunningLoop, digits_config
from tests.end_to_end.servers import PostgreSQL, Redis
from tests.end_to_end.test_closed_loop import FAST, label


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = PostgreSQL(tmp_path_factory.mktemp("postgresql"))
    yield server.url
    server.remove()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = Redis(tmp_path_factory.mktemp("redis"))
    yield server.url
    server.stop()


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
