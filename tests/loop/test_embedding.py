"""Embedding a pool: what is held in memory, hosts that are down, and an embedder whose file is lost."""

import base64
from io import BytesIO
from pathlib import Path
from typing import NoReturn

import httpcore
import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select, update

from backend.deployment import Deployment
from backend.labelstudio import media
from backend.labelstudio.safe_http import SafeHttp
from backend.learners import self_supervised
from backend.learners.weights import DamagedWeights
from backend.loop import embedders, embedding
from backend.loop.audit import random_order
from backend.loop.embedders import embedder_folder, embedder_for, embedder_of
from backend.loop.embedding import embed_for_round, embed_pool, embedding_work
from backend.settings import LoopSettings
from backend.store.tables import Project, ProjectState, Round, Task
from tests.conftest import new_deployment

SELF = LoopSettings(embedding="self-supervised")
NOBODY = "http://127.0.0.1:1/image.png"


@pytest.fixture(autouse=True)
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Embedders are trained for a moment only."""
    for name, little in {"LEAST_VIEWS": 60, "PATCHES": 2_000, "KMEANS_ITERATIONS": 2}.items():
        monkeypatch.setattr(self_supervised, name, little)


def drawn(width: int = 48, height: int = 32, seed: int = 0) -> str:
    """The address of an image that is its own data."""
    spots = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(spots).resize((width, height), Image.Resampling.BICUBIC).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """Project 1, without tasks."""
    made = new_deployment(tmp_path, media_hosts="127.0.0.1")
    with made.database.write() as session:
        session.add(Project(id=1, state=ProjectState.ACTIVE))
    return made


def add(deployment: Deployment, *sources: str) -> None:
    with deployment.database.write() as session:
        session.add_all(Task(project_id=1, id=i, source=source) for i, source in enumerate(sources, 1))


def embedded(deployment: Deployment) -> list[bool]:
    with deployment.database.read() as session:
        return [name is not None for name in session.scalars(select(Task.embedded).order_by(Task.id))]


def test_images_wait_hardly_larger_than_they_are_embedded(deployment: Deployment) -> None:
    add(deployment, drawn(), drawn(seed=1))
    embedder = embedder_for(deployment, 1, SELF, embedder_folder(deployment, 1))
    for width, height in [(2000, 1500), (9000, 40), (100, 5000), (32, 32), (10, 10)]:
        source = drawn(width, height)
        waiting = embedding_work(deployment, embedder).load((7, source))
        assert max(waiting.size) <= 2 * embedder.size
        whole = deployment.media.image(source, 7)
        difference = embedder.embed([waiting]) - embedder.embed([whole])
        assert np.linalg.norm(difference) < 0.1  # between two such images it is about 1


def test_an_embedder_is_trained_on_small_images(deployment: Deployment) -> None:
    add(deployment, drawn(2000, 1500), drawn(9000, 40), drawn())
    assert all(max(image.size) < 4 * 32 for image in embedders._sample(deployment, 1))


def test_of_the_images_that_are_embedded_first_as_many_are_audit_tasks_as_of_all(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are drawn by the same numbers: a sample of nothing else would leave a strategy no candidate."""
    add(deployment, *(drawn(seed=seed) for seed in range(40)))
    draws = random_order(1, range(1, 41))
    order = np.argsort(draws)
    audit, others = order[:20], order[20:]
    with deployment.database.write() as session:
        session.execute(update(Task).where(Task.id.in_((audit + 1).tolist())).values(audit=True))
    monkeypatch.setattr(embedding, "FIRST_SAMPLE", 10)
    embed_for_round(deployment, 1, SELF)
    assert set(np.flatnonzero(embedded(deployment))) == {*audit[:5], *others[:5]}
    embed_pool(deployment, 1, SELF)
    assert all(embedded(deployment))


def test_a_host_that_is_down_is_asked_again_but_not_at_once(deployment: Deployment) -> None:
    add(deployment, drawn(), drawn(seed=1), NOBODY)
    assert embed_pool(deployment, 1, SELF)
    assert embedded(deployment) == [True, True, False]
    assert not embed_pool(deployment, 1, SELF)  # else the worker would come back without a pause
    with deployment.database.read() as session:
        assert session.get_one(Task, (1, 3)).broken is None


def test_a_host_that_cannot_be_reached_costs_the_time_of_one_image(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(deployment, drawn(), drawn(seed=1), *(f"http://127.0.0.1:1/{number}.png" for number in range(50)))
    asked: list[object] = []

    def drop(*request: object, **_: object) -> NoReturn:
        asked.append(request)
        raise httpcore.ConnectTimeout

    monkeypatch.setattr(SafeHttp, "get", drop)
    monkeypatch.setattr(embedding, "LOADERS", 1)
    assert embed_pool(deployment, 1, SELF)
    assert embedded(deployment) == [True, True, *[False] * 50]
    assert len(asked) == 1
    monkeypatch.setattr(media, "UNREACHABLE_SECONDS", 0.0)
    deployment.media._unreachable.clear()
    assert not embed_pool(deployment, 1, SELF)
    assert len(asked) == 51


@pytest.mark.parametrize("damaged", [False, True])
def test_an_embedder_whose_file_is_lost_is_trained_anew(deployment: Deployment, damaged: bool) -> None:
    """It is in the memory of this process; others, and the next start, have only the file."""
    add(deployment, drawn(), drawn(seed=1))
    facts = embed_for_round(deployment, 1, SELF)
    learned = Round(id=1, project_id=1, number=1, version="v", reason="", step="fit", facts=facts)
    assert embedder_of(deployment, learned).name == facts["embedder"]
    (file,) = deployment.settings.model_dir.glob("projects/1/embedder-*/*")
    add_more = [Task(project_id=1, id=3, source=drawn(seed=2))]
    with deployment.database.write() as session:
        session.add_all(add_more)
    file.write_bytes(b"no weights") if damaged else file.unlink()
    again = embed_for_round(deployment, 1, SELF)
    assert again["embedder"] != facts["embedder"]
    assert file.stat().st_size > 1_000
    assert embedded(deployment) == [True, True, True]
    with pytest.raises(DamagedWeights, match="no longer there"):
        embedder_of(deployment, learned)


def test_embeddings_of_tasks_that_are_gone_do_not_pile_up(deployment: Deployment) -> None:
    add(deployment, drawn(), drawn(seed=1))
    name = str(embed_for_round(deployment, 1, SELF)["embedder"])
    _, before = deployment.embeddings.read(1, name)
    gone = range(100, 100 + embedding.NOT_WORTH_IT + 10)
    deployment.embeddings.append(1, name, gone, np.zeros((len(gone), before.shape[1]), np.float32))
    assert embedding.note_lost_embeddings(deployment, 1, name) == 0
    assert deployment.embeddings.rows(1, name) == 2
    ids, after = deployment.embeddings.read(1, name)
    assert ids.tolist() == [1, 2]
    np.testing.assert_array_equal(after, before)
