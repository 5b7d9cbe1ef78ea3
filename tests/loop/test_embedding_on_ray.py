"""The pool embedded by a Ray of this machine, with images from a server and state in a store, as in a deployment."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import ray
from PIL import Image
from pydantic import SecretStr

from backend.deployment import Deployment
from backend.loop.embedding import embed_pool, embedder_folder, embedder_for
from backend.settings import LoopSettings, Settings
from backend.store.tables import Project, ProjectState, Task

COUNT, BROKEN = 40, 7
LOOP = LoopSettings(embedding="self-supervised")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def images(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for task_id in range(1, COUNT + 1):
        Image.fromarray(rng.integers(0, 255, (24, 24, 3), np.uint8)).save(folder / f"{task_id}.png")
    (folder / f"{BROKEN}.png").write_bytes(b"no image at all")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_the_pool_is_embedded_as_it_is_in_this_process(images: str, tmp_path: Path) -> None:
    settings = Settings(
        _env_file=None,  # type: ignore[call-arg]
        model_dir=tmp_path / "data",
        label_studio_api_key=SecretStr("a-key"),
        media_hosts="127.0.0.1",
        ray_address="local",
    )
    deployment = Deployment(settings)
    deployment.prepare()
    with deployment.database.write() as session:
        session.add(Project(id=1, state=ProjectState.ACTIVE))
        session.flush()
        for task_id in range(1, COUNT + 1):
            session.add(Task(project_id=1, id=task_id, source=f"{images}/{task_id}.png"))
    try:
        assert embed_pool(deployment, 1, LOOP)
    finally:
        ray.shutdown()
    embedder = embedder_for(deployment, 1, LOOP, embedder_folder(deployment, 1))
    ids, vectors = deployment.embeddings.read(1, embedder.name)
    assert ids.tolist() == [task_id for task_id in range(1, COUNT + 1) if task_id != BROKEN]
    assert deployment.embeddings.rows(1, embedder.name) == len(ids)
    pictures = [Image.open(tmp_path / "images" / f"{task_id}.png").convert("RGB") for task_id in ids]
    np.testing.assert_allclose(vectors, embedder.embed(pictures), atol=1e-5)
    with deployment.database.read() as session:
        assert session.get_one(Task, (1, BROKEN)).broken
        assert session.get_one(Task, (1, 1)).embedded == embedder.name
