"""Work on a Ray cluster: two nodes, on this machine, of a CPU each."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import ray
from numpy.typing import NDArray
from ray.cluster_utils import Cluster

from backend.deployment import Deployment
from backend.engine import local
from backend.engine.ray import BLOCK, ClusterUnavailable, map_images
from backend.engine.work import Batch, Work
from backend.labelstudio.labeling_config import read_labeling_config
from backend.learners.segmentation import MaskAnswers, fit_segmenter, training
from backend.loop import answering, embedding
from backend.loop.embedders import embedder_folder, embedder_for
from backend.loop.embedding import embed_pool
from backend.loop.images import shrunk
from backend.loop.learning import learner_artifact
from backend.settings import LoopSettings
from backend.store.tables import Project, ProjectState, Round, RoundState, Task
from tests.conftest import new_deployment
from tests.end_to_end.running_loop import wait_for
from tests.learners.drawn_scenes import CLASSES, labeled, scene

BROKEN = 7  # in every hundred


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_raylet_start_wait_time_s", "180")  # a test's machine may be busy
        yield from start_cluster()


def start_cluster() -> Iterator[Cluster]:
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    started.add_node(num_cpus=1)
    yield started
    ray.shutdown()
    started.shutdown()


class Squares:
    """Makes the work.

    first: called by the actor that comes first to an item in the middle; each: called for each item.
    """

    def __init__(
        self,
        seen: Path,
        first: Callable[[], None] = lambda: None,
        each: Callable[[], None] = lambda: None,
    ) -> None:
        self._seen, self._first, self._each = seen, first, each

    def __call__(self) -> Work[int, int, NDArray[np.float32]]:
        def load(item: int) -> int:
            self._each()
            if item % 100 == BROKEN:
                raise FileNotFoundError(f"{item} is broken")
            if item == BLOCK + 40 and not self._seen.exists():
                self._seen.touch()
                self._first()
            return item

        def compute(loaded: list[int]) -> NDArray[np.float32]:
            return np.array(loaded, np.float32)[:, None] ** 2

        return Work(load, compute, (OSError,))


def told(
    batches: Iterable[Batch[int, NDArray[np.float32]]],
) -> tuple[list[int], list[float], list[tuple[int, str]]]:
    """Items, their rows and what is broken, in the order in which they come."""
    items, rows, broken = [], [], []
    for batch in batches:
        items += batch.items
        rows += [] if batch.outputs is None else batch.outputs[:, 0].tolist()
        broken += [(item, str(error)) for item, error in batch.broken]
    return items, rows, broken


def here(count: int, seen: Path) -> tuple[list[int], list[float], list[tuple[int, str]]]:
    return told(local.map_images(range(count), Squares(seen)()))


def test_all_is_as_in_this_process(cluster: Cluster, tmp_path: Path) -> None:
    there = told(map_images(range(700), Squares(tmp_path / "seen"), address=cluster.address))
    assert there == here(700, tmp_path / "seen")
    assert len(there[2]) == 7


def test_nothing_to_do(cluster: Cluster, tmp_path: Path) -> None:
    assert list(map_images([], Squares(tmp_path / "seen"), address=cluster.address)) == []


def test_an_actor_that_is_killed_costs_nothing(cluster: Cluster, tmp_path: Path) -> None:
    make = Squares(tmp_path / "seen", first=lambda: os.kill(os.getpid(), signal.SIGKILL))
    there = told(map_images(range(1_000), make, address=cluster.address))
    assert (tmp_path / "seen").exists()
    assert there == here(1_000, tmp_path / "seen")


def test_a_node_that_is_lost_costs_nothing(cluster: Cluster, tmp_path: Path) -> None:
    """It has begun a block by then, which it does not end; the other nodes wait for that."""
    node = cluster.add_node(num_cpus=1)
    begun, lost = tmp_path / "begun", node.node_id

    def each() -> None:
        if ray.get_runtime_context().get_node_id() == lost:
            begun.touch()
            time.sleep(600)
        wait_for("work on the node", begun.exists)

    def lose() -> None:
        wait_for("work on the node", begun.exists)
        cluster.remove_node(node, allow_graceful=False)

    with ThreadPoolExecutor(1) as pool:
        losing = pool.submit(lose)
        there = told(map_images(range(3_000), Squares(tmp_path / "seen", each=each), address=cluster.address))
        losing.result()
    assert there == here(3_000, tmp_path / "seen")


def test_an_error_of_the_work_comes_out_as_it_is(cluster: Cluster, tmp_path: Path) -> None:
    def fail() -> None:
        raise KeyError("a defect, not a broken image")

    make = Squares(tmp_path / "seen", first=fail)
    with pytest.raises(KeyError, match="defect"):
        list(map_images(range(700), make, address=cluster.address))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def deployment(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """A project whose tasks' images, scenes of shapes, a server has; one is broken."""
    monkeypatch.setattr(embedding, "WORTH_A_CLUSTER", 0)
    monkeypatch.setattr(answering, "WORTH_A_CLUSTER", 0)
    folder = tmp_path / "images"
    folder.mkdir()
    for task_id in range(1, 31):
        scene(task_id)[0].save(folder / f"{task_id}.png")
    (folder / f"{BROKEN}.png").write_bytes(b"no image at all")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made = new_deployment(tmp_path / "data", media_hosts="127.0.0.1", ray_address=cluster.address)
    with made.database.write() as session:
        session.add(Project(id=1, state=ProjectState.ACTIVE))
        session.flush()
        for task_id in range(1, 31):
            source = f"http://127.0.0.1:{server.server_port}/{task_id}.png"
            session.add(Task(project_id=1, id=task_id, source=source))
    yield made
    server.shutdown()


def done_here(*_: object, **__: object) -> None:
    pytest.fail("this process did the work")


def test_a_pool_is_embedded_there(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "map_images", done_here)
    loop = LoopSettings(embedding="self-supervised")
    assert embed_pool(deployment, 1, loop)
    embedder = embedder_for(deployment, 1, loop, embedder_folder(deployment, 1))
    ids, vectors = deployment.embeddings.read(1, embedder.name)
    assert ids.tolist() == [task_id for task_id in range(1, 31) if task_id != BROKEN]
    assert deployment.embeddings.rows(1, embedder.name) == len(ids)
    images = [shrunk(scene(task_id)[0], embedder.size) for task_id in ids.tolist()]
    np.testing.assert_allclose(vectors, embedder.embed(images), atol=1e-5)
    with deployment.database.read() as session:
        assert session.get_one(Task, (1, BROKEN)).broken
        assert session.get_one(Task, (1, 1)).embedded == embedder.name


def test_a_learner_looks_at_a_pool_there(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = "".join(f'<Label value="{name}"/>' for name in CLASSES)
    config = (
        f'<View><Image name="image" value="$image"/>'
        f'<BrushLabels name="shapes" toName="image">{labels}</BrushLabels></View>'
    )
    (control,) = read_labeling_config(config).controls
    monkeypatch.setattr(training, "LEAST_VIEWS", 8)
    monkeypatch.setattr(training, "EPOCHS", 1)
    segmenter = fit_segmenter(
        labeled([scene(i) for i in range(4)]), CLASSES, members=2, seed=0, backbone="scratch"
    )
    learned = Round(project_id=1, number=1, state=RoundState.DONE, version="round-1", facts={})
    with deployment.artifacts.writing(learner_artifact(learned, control)) as folder:
        segmenter.save(folder)
    asked = [3, BROKEN, 30, 12]
    with monkeypatch.context() as patch:
        patch.setattr(local, "map_images", done_here)
        ids, there = answering.answers_about(deployment, learned, control, segmenter, asked)
    alone = Deployment(deployment.settings.model_copy(update={"ray_address": ""}))
    same, expected = answering.answers_about(alone, learned, control, segmenter, asked)
    assert ids.tolist() == same.tolist() == [3, 30, 12]
    assert isinstance(there, MaskAnswers)
    assert isinstance(expected, MaskAnswers)
    np.testing.assert_allclose(
        there.pool_fields()["committee"], expected.pool_fields()["committee"], atol=1e-5
    )


def test_a_cluster_that_is_not_there_is_told(tmp_path: Path) -> None:
    ray.shutdown()
    with pytest.raises(
        ClusterUnavailable, match=r"127\.0\.0\.1:1 cannot be used .*No label is lost.*RAY_ADDRESS"
    ):
        list(map_images(range(3), Squares(tmp_path / "seen"), address="127.0.0.1:1"))
    with pytest.raises(ClusterUnavailable, match="auto"):
        list(map_images(range(3), Squares(tmp_path / "seen"), address="auto"))
