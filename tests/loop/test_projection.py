from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.manifold import trustworthiness

from backend.deployment import Deployment
from backend.loop import projection
from backend.loop.projection import current_map, lay_out, map_outdated, place, read_map, update_map
from backend.store.leases import lease
from backend.store.tables import Project, Round, RoundState
from tests.conftest import new_deployment

DIGITS = load_digits()
PIXELS = DIGITS.data.astype(np.float32)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    made = new_deployment(tmp_path)
    with made.database.write() as session:
        session.add(Project(id=1))
    start_round(made, "small")
    yield made
    made.database.engine.dispose()


def start_round(deployment: Deployment, embedder: str) -> None:
    with deployment.database.write() as session:
        facts = {"embedder": embedder}
        session.add(
            Round(
                project_id=1, number=0, version="v", reason="", step="fit", facts=facts, state=RoundState.DONE
            )
        )


def embed(deployment: Deployment, first: int, last: int, embedder: str = "small") -> None:
    """Store the pixels of digits as the embeddings of tasks `first` to `last` - 1."""
    deployment.embeddings.append(1, embedder, range(first, last), PIXELS[first:last])


def places_of(deployment: Deployment) -> dict[int, tuple[float, float]]:
    name = current_map(deployment, 1)
    assert name is not None
    ids, places = read_map(deployment, 1, name)
    return {int(task_id): (float(x), float(y)) for task_id, (x, y) in zip(ids, places, strict=True)}


def test_images_that_look_alike_lie_together_landmarks_and_others() -> None:
    """The ten digits form clusters: a point's class is that of the points around it."""
    laid_out = lay_out(PIXELS[:400])
    placed = place(PIXELS[400:1000], PIXELS[:400], laid_out)
    assert np.abs(laid_out).max() == pytest.approx(0.95)
    assert trustworthiness(PIXELS[:400], laid_out, n_neighbors=10) > 0.97
    assert trustworthiness(PIXELS[400:1000], placed, n_neighbors=10) > 0.93
    nearest = np.linalg.norm(placed[:, None] - laid_out[None], axis=2).argmin(axis=1)
    assert (DIGITS.target[nearest] == DIGITS.target[400:1000]).mean() > 0.8


def test_the_same_vectors_give_the_same_map() -> None:
    assert np.array_equal(lay_out(PIXELS[:100]), lay_out(PIXELS[:100]))


def test_an_image_on_a_landmark_has_the_landmarks_place_and_one_beside_it_lies_beside_it() -> None:
    landmarks = np.array([[0, 0, 0], [10, 0, 0], [0, 10, 0]], np.float32)
    places = np.array([[-1, -1], [1, -1], [-1, 1]], np.float32)
    found = place(np.array([[10, 0, 0], [9, 0, 0], [5, 0, 0]], np.float32), landmarks, places)
    assert found[0] == pytest.approx([1, -1])
    assert found[1] == pytest.approx([1, -1], abs=0.01)
    assert found[2] == pytest.approx([0, -1], abs=0.1)


@pytest.mark.parametrize("count", [1, 2, 4, 10])
def test_few_images_and_equal_ones_can_be_laid_out(count: int) -> None:
    assert np.isfinite(lay_out(np.ones((count, 3), np.float32))).all()
    if count > 1:
        assert np.isfinite(lay_out(PIXELS[:count])).all()


def test_a_map_is_made_once_there_are_enough_images(deployment: Deployment) -> None:
    embed(deployment, 0, 9)
    assert not map_outdated(deployment, 1)
    update_map(deployment, 1)
    assert current_map(deployment, 1) is None
    embed(deployment, 9, 60)
    assert map_outdated(deployment, 1)
    update_map(deployment, 1)
    assert not map_outdated(deployment, 1)
    assert sorted(places_of(deployment)) == list(range(60))


def test_new_images_are_placed_without_moving_the_others(deployment: Deployment) -> None:
    embed(deployment, 0, 60)
    update_map(deployment, 1)
    before = places_of(deployment)
    embed(deployment, 60, 90)
    update_map(deployment, 1)
    after = places_of(deployment)
    assert sorted(after) == list(range(90))
    assert {task_id: after[task_id] for task_id in before} == before


def test_an_image_embedded_anew_moves(deployment: Deployment) -> None:
    embed(deployment, 0, 60)
    update_map(deployment, 1)
    before = places_of(deployment)
    deployment.embeddings.append(1, "small", [7], PIXELS[[5]])
    update_map(deployment, 1)
    after = places_of(deployment)
    assert after.pop(7) == pytest.approx(after[5], abs=1e-5)
    assert all(after[task_id] == before[task_id] for task_id in after)


def test_a_pool_that_has_outgrown_its_landmarks_gets_a_new_map_up_to_their_full_number(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection, "LANDMARKS", 100)
    embed(deployment, 0, 30)
    update_map(deployment, 1)
    first = places_of(deployment)
    embed(deployment, 30, 150)
    update_map(deployment, 1)
    second = places_of(deployment)
    assert current_map(deployment, 1) == "small@map-100"
    assert first[0] != second[0]
    assert deployment.embeddings.versions_of(1) == ["small", "small@map-100"]
    embed(deployment, 150, 900)
    update_map(deployment, 1)
    assert places_of(deployment)[0] == second[0]


def test_another_embedder_gets_another_map_and_the_old_one_serves_until_then(deployment: Deployment) -> None:
    embed(deployment, 0, 30)
    update_map(deployment, 1)
    start_round(deployment, "large")
    assert not map_outdated(deployment, 1)
    assert current_map(deployment, 1) == "small@map-30"
    embed(deployment, 0, 40, "large")
    update_map(deployment, 1)
    assert deployment.embeddings.versions_of(1) == ["large", "large@map-40", "small"]


@pytest.mark.parametrize("part", ["data", "_versions"])
def test_a_damaged_map_is_made_anew(deployment: Deployment, tmp_path: Path, part: str) -> None:
    embed(deployment, 0, 30)
    update_map(deployment, 1)
    for file in (tmp_path / "embeddings" / "project-1" / "small@map-30.lance" / part).iterdir():
        file.write_bytes(b"nonsense")
    embed(deployment, 30, 40)
    update_map(deployment, 1)
    assert sorted(places_of(deployment)) == list(range(40))


def test_one_worker_at_a_time_makes_a_map(deployment: Deployment) -> None:
    embed(deployment, 0, 30)
    with lease(deployment.database, "map:1"):
        update_map(deployment, 1)
        assert current_map(deployment, 1) is None
    update_map(deployment, 1)
    assert current_map(deployment, 1) is not None
