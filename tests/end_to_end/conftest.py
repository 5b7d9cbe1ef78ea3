"""The backend's processes, against the session's Label Studio."""

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import expect

from backend.demo.label_studio import LabelStudioServer
from backend.labelstudio.client import LabelStudio
from tests.end_to_end.running_loop import RunningLoop

expect.set_options(timeout=60_000)  # ms; a test's machine may be busy


@pytest.fixture(scope="session")
def loop(label_studio: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLoop]:
    """A server and a worker, shared by the tests that leave them as they are; each makes its own projects."""
    running = RunningLoop.on(label_studio, tmp_path_factory.mktemp("backend"))
    with running.processes:
        yield running


@pytest.fixture
def http(label_studio: LabelStudioServer, client: LabelStudio) -> Iterator[httpx.Client]:
    """Label Studio's API, as its user interface calls it."""
    headers = {"Authorization": client.authorization()}
    with httpx.Client(base_url=label_studio.url, headers=headers, timeout=60, trust_env=False) as http:
        yield http
