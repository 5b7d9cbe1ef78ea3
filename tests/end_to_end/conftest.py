"""The backend's processes, against the session's Label Studio."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import expect
from sklearn.datasets import load_digits

from backend.demo.label_studio import LabelStudioServer
from backend.labelstudio.client import LabelStudio
from backend.learners.self_supervised import SelfSupervisedEmbedder
from backend.loop.embedders import POOL_SIZES
from backend.store.artifacts import project_artifacts
from tests.conftest import DigitsProject
from tests.end_to_end.running_loop import RunningLoop
from tests.end_to_end.scenes_project import Answer, ScenesProject

expect.set_options(timeout=60_000)  # ms; a test's machine may be busy


@pytest.fixture(scope="session")
def loop(label_studio: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLoop]:
    """A server and a worker, shared by the tests that leave them as they are; each makes its own projects."""
    running = RunningLoop.on(label_studio, tmp_path_factory.mktemp("backend"))
    with running.processes:
        yield running


@pytest.fixture(scope="session")
def give_embedder(loop: RunningLoop, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], None]:
    """Gives a project an embedder of digits: to train one for each would take longer than all the rest.

    The demo, the loop on object storage and the projects of faces train their own.
    """
    folder = tmp_path_factory.mktemp("embedder")
    images = [Image.fromarray((pixels * 15.9375).astype("uint8")) for pixels in load_digits().images[:200]]
    SelfSupervisedEmbedder.train(images).save(folder)

    def give(project_id: int) -> None:
        for stage in range(len(POOL_SIZES) + 1):
            key = f"{project_artifacts(project_id)}/embedder-{stage}"
            shutil.copytree(folder, loop.deployment.settings.model_dir / key)

    return give


@pytest.fixture(scope="session")
def make_project(
    make_project: Callable[..., DigitsProject], give_embedder: Callable[[int], None]
) -> Callable[..., DigitsProject]:
    """Makes a project of digits that has an embedder; see `make_digits_project`."""

    def make(images: int = 12, **settings: Any) -> DigitsProject:
        project = make_project(images, **settings)
        give_embedder(project.id)
        return project

    return make


@pytest.fixture
def make_scenes(
    loop: RunningLoop,
    label_studio: LabelStudioServer,
    local_files: Path,
    give_embedder: Callable[[int], None],
) -> Callable[..., ScenesProject]:
    """Makes a project of scenes that has an embedder, from its labeling config and what its annotator answers."""

    def make(config: str, answer: Answer) -> ScenesProject:
        project = ScenesProject(loop, label_studio, local_files, config, answer)
        give_embedder(project.id)
        return project

    return make


@pytest.fixture
def http(label_studio: LabelStudioServer, client: LabelStudio) -> Iterator[httpx.Client]:
    """Label Studio's API, as its user interface calls it."""
    headers = {"Authorization": client.authorization()}
    with httpx.Client(base_url=label_studio.url, headers=headers, timeout=60, trust_env=False) as http:
        yield http
