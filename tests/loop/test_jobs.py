"""How the threads of a worker are shared out."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_limits

from backend.loop import jobs
from backend.loop.jobs import IN_BACKGROUND, WORKERS, Jobs
from backend.store.tables import Project, ProjectState
from tests.conftest import new_deployment
from tests.end_to_end.running_loop import wait_for


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


def test_the_threads_of_a_computation_end_with_its_job(made: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def compute(*_: object) -> None:
        assert torch.get_num_threads()
        with threadpool_limits(2, user_api="openmp"):
            torch.ones(1_000_000).sin_()

    monkeypatch.setattr(jobs, "review", compute)
    all_at_once = threading.Barrier(WORKERS)

    def count() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    def work(project_id: int) -> None:
        all_at_once.wait(60)  # each in a thread of its own
        made._review.call_local(project_id)

    with ThreadPoolExecutor(WORKERS) as threads:
        list(threads.map(lambda _: all_at_once.wait(60), range(WORKERS)))
        before = count()
        list(threads.map(work, range(WORKERS)))
        wait_for("the threads to end", lambda: count() == before or None)
