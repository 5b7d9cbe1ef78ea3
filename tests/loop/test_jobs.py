"""How the threads of a worker are shared out."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import pytest

from backend.loop import jobs
from backend.loop.jobs import IN_BACKGROUND, WORKERS, Jobs
from backend.store.tables import Project, ProjectState
from tests.conftest import new_deployment


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Jobs]:
    """Jobs of projects 0 to 3."""
    deployment = new_deployment(tmp_path)
    with deployment.database.write() as session:
        session.add_all(Project(id=i, state=ProjectState.ACTIVE) for i in range(WORKERS))
    yield Jobs(deployment)


def test_pools_that_are_embedded_for_hours_leave_threads_for_rounds(
    made: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, enough = threading.Semaphore(0), threading.Event()

    def embed_for_hours(*_: object) -> bool:
        begun.release()
        return enough.wait(60)

    monkeypatch.setattr(jobs, "embed_pool", embed_for_hours)
    with ThreadPoolExecutor(WORKERS) as threads:
        running = [threads.submit(made._run_embed, project_id) for project_id in range(WORKERS)]
        try:
            for _ in range(IN_BACKGROUND):
                assert begun.acquire(timeout=60)
            ending = as_completed(running, timeout=60)
            for _ in range(WORKERS - IN_BACKGROUND):
                next(ending)
        finally:
            enough.set()
    made._run_embed(0)  # when they are through, the next comes in
    assert begun.acquire(timeout=0)
