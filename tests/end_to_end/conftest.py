"""The backend's processes, against the session's Label Studio."""

from collections.abc import Iterator

import pytest

from backend.demo.label_studio import LabelStudioServer
from tests.end_to_end.running_loop import RunningLoop


@pytest.fixture(scope="session")
def loop(label_studio: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLoop]:
    """A server and a worker, shared by the tests that leave them as they are; each makes its own projects."""
    running = RunningLoop.on(label_studio, tmp_path_factory.mktemp("backend"))
    with running.processes:
        yield running
