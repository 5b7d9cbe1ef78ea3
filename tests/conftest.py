"""What all tests share: where state and jobs are kept, a real Label Studio, and projects of digits on it."""

import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import label_studio_sdk
import numpy as np
import pytest
from PIL import Image
from pydantic import SecretStr
from sklearn.datasets import load_digits

from backend.demo.label_studio import LabelStudioServer
from backend.deployment import Deployment
from backend.labelstudio.client import LabelStudio
from backend.settings import Settings
from tests import stores

LABEL_CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="digit" toName="image">'
    + "".join(f'<Choice value="{digit}"/>' for digit in range(10))
    + "</Choices></View>"
)


@dataclass(frozen=True)
class DigitsProject:
    """A Label Studio project of handwritten digits.

    Attributes:
        id: the project's.
        digits: the true digit of each task, by task id, in the order of ids.
        images: the folder of its images; the task of the i-th id shows `{i:04}.png`.
    """

    id: int
    digits: dict[int, int]
    images: Path


def choice(digit: int) -> list[dict[str, Any]]:
    """The result that says "this is that digit"."""
    return [{"from_name": "digit", "to_name": "image", "type": "choices", "value": {"choices": [str(digit)]}}]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--store", choices=stores.KINDS, default="sqlite", help="where the tests keep state and jobs"
    )


def pytest_configure(config: pytest.Config) -> None:
    stores.chosen = config.getoption("--store")
    # A shell that starts the tests in the background has them ignore Ctrl-C, and with them what they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _stores() -> Iterator[None]:
    """Fixtures of more than one test have a store, too; and nobody's own settings are in the way."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in stores.new_store().items():
            environment.setenv(name, value)
        yield
    stores.remove_servers()


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[stores.Store]:
    """An empty store, which all settings name that the test makes and does not tell of another."""
    made = stores.new_store()
    for name, value in made.items():
        monkeypatch.setenv(name, value)
    yield made
    stores.drop(made)


@pytest.fixture
def state_url(tmp_path: Path) -> str:
    """The address of an empty database."""
    return Settings(_env_file=None, model_dir=tmp_path).state_url  # type: ignore[call-arg]


def new_deployment(model_dir: Path, *, api_key: str = "key", **settings: Any) -> Deployment:
    """A deployment whose store is ready, with settings as `Settings` names them; nobody need be at its addresses."""
    made = Deployment(
        Settings(
            _env_file=None,  # type: ignore[call-arg]
            model_dir=model_dir,
            label_studio_api_key=SecretStr(api_key),
            **settings,
        )
    )
    made.prepare()
    return made


@pytest.fixture(scope="session")
def prepared_directory(request: pytest.FixtureRequest) -> Path:
    """A Label Studio directory with a migrated database and a first user: to be copied, not used.

    Migrating takes half a minute, so it is kept in pytest's cache (`pytest --cache-clear` makes it anew).
    """
    cache = Path(request.config.cache.mkdir(f"label-studio-{version('label-studio')}"))
    prepared = cache / "prepared"
    if not prepared.exists():
        fresh = Path(tempfile.mkdtemp(dir=cache))
        with LabelStudioServer(fresh):
            pass
        try:
            os.rename(fresh, prepared)  # noqa: PTH104  # atomic, for two test runs at once
        except OSError:
            shutil.rmtree(fresh)
    return prepared


@pytest.fixture(scope="session")
def local_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the session's Label Studio serves files from."""
    return tmp_path_factory.mktemp("local-files")


@pytest.fixture(scope="session")
def label_studio(
    prepared_directory: Path, local_files: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabelStudioServer]:
    """A running Label Studio, shared by all tests of the session. Each test makes its own projects on it."""
    directory = tmp_path_factory.mktemp("label-studio") / "data"
    shutil.copytree(prepared_directory, directory)
    with LabelStudioServer(directory, local_files=local_files) as server:
        yield server


@pytest.fixture
def start_label_studio(
    prepared_directory: Path, tmp_path: Path
) -> Iterator[Callable[..., LabelStudioServer]]:
    """Starts a Label Studio (arguments as `LabelStudioServer`'s) of the test's own, which it may kill and restart."""
    started: list[LabelStudioServer] = []

    def start(**options: Any) -> LabelStudioServer:
        directory = tmp_path / f"label-studio-{len(started)}"
        shutil.copytree(prepared_directory, directory)
        started.append(LabelStudioServer(directory, **options))
        started[-1].start()
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def client(label_studio: LabelStudioServer) -> LabelStudio:
    """Our client, as the session server's first user."""
    return LabelStudio(label_studio.url, label_studio.api_key)


@pytest.fixture
def new_annotator(label_studio: LabelStudioServer) -> Callable[[], str]:
    """Signs a further annotator up to the session's server; gives their API key."""
    return lambda: label_studio.add_user(f"{uuid.uuid4().hex}@example.com", uuid.uuid4().hex)


@pytest.fixture(scope="session")
def make_project(label_studio: LabelStudioServer, local_files: Path) -> Callable[..., DigitsProject]:
    """Makes a project of digits on the session's server; see `make_digits_project`."""

    def make(images: int = 12, **settings: Any) -> DigitsProject:
        return make_digits_project(label_studio, local_files, images, **settings)

    return make


def make_digits_project(
    server: LabelStudioServer, local_files: Path, images: int, **settings: Any
) -> DigitsProject:
    """Make a project of the first `images` of scikit-learn's digits, drawn as PNG and served as local files.

    Args:
        server: where.
        local_files: the folder it serves.
        images: how many, up to 1797.
        settings: of the project, as Label Studio names them (`maximum_annotations=3`, `label_config=…`).
    """
    drawn = load_digits()
    enlarged = [  # 0..16 → 0..255, 8 → 32 pixels
        Image.fromarray(np.kron(pixels * 15.9375, np.ones((4, 4))).astype(np.uint8))
        for pixels in drawn.images[:images]
    ]
    defaults = {"title": "Digits", "label_config": LABEL_CONFIG}
    project_id, ids, folder = make_image_project(server, local_files, enlarged, **defaults | settings)
    digits = {task: int(digit) for task, digit in zip(ids, drawn.target[:images], strict=True)}
    return DigitsProject(project_id, digits, folder)


def make_image_project(
    server: LabelStudioServer, local_files: Path, images: Sequence[Image.Image], **settings: Any
) -> tuple[int, list[int], Path]:
    """Make a project of images, served as local files: its id, those of the tasks in the images' order, the folder."""
    folder = local_files / uuid.uuid4().hex
    folder.mkdir()
    for number, image in enumerate(images):
        image.save(folder / f"{number:04}.png")
    sdk = label_studio_sdk.LabelStudio(base_url=server.url, api_key=server.api_key)
    project = sdk.projects.create(**settings)
    sdk.import_storage.local.create(project=project.id, path=str(folder), use_blob_urls=True)
    tasks = [
        {"image": f"/data/local-files/?d={folder.name}/{number:04}.png"} for number in range(len(images))
    ]
    if tasks:
        sdk.projects.import_tasks(id=project.id, request=tasks)
    return project.id, sorted(LabelStudio(server.url, server.api_key).task_ids(project.id)), folder
