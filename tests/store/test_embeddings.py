from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from backend.store import embeddings
from backend.store.embeddings import SMALL_FRAGMENTS, DamagedEmbeddings, EmbeddingStore
from backend.store.storage import Storage


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    return EmbeddingStore(Storage(str(tmp_path)))


def vectors(*first: float) -> np.ndarray:
    return np.array([[value, -value, 0.5] for value in first], np.float32)


def test_what_was_written_is_read_in_order_of_task_or_in_the_order_asked_for(store: EmbeddingStore) -> None:
    store.append(1, "small", [7, 3], vectors(7, 3))
    store.append(1, "small", [5], vectors(5))
    ids, stored = store.read(1, "small")
    assert ids.tolist() == [3, 5, 7]
    assert stored[:, 0].tolist() == [3, 5, 7]
    ids, stored = store.read(1, "small", [7, 4, 5])
    assert ids.tolist() == [7, 5]
    assert stored[:, 0].tolist() == [7, 5]
    many = [*range(10_000, 8, -1), 7, 5]
    ids, stored = store.read(1, "small", many)
    assert ids.tolist() == [7, 5]
    assert stored[:, 0].tolist() == [7, 5]


def test_the_later_embedding_of_a_task_counts(store: EmbeddingStore) -> None:
    store.append(1, "small", [1, 2, 1], vectors(10, 20, 11))
    store.append(1, "small", [2], vectors(21))
    ids, stored = store.read(1, "small")
    assert ids.tolist() == [1, 2]
    assert stored[:, 0].tolist() == [11, 21]


def test_those_of_other_tasks_are_forgotten(store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "BLOCK", 2)
    store.append(1, "small", [1, 2, 3, 1], vectors(10, 20, 30, 11))
    store.append(1, "small", [4], vectors(40))
    store.keep_only(1, "small", np.array([1, 4, 9]))
    assert store.rows(1, "small") == 2
    store.append(1, "small", [2], vectors(21))
    ids, stored = store.read(1, "small")
    assert ids.tolist() == [1, 2, 4]
    assert stored[:, 0].tolist() == [11, 21, 40]
    store.keep_only(1, "small", np.array([], np.int64))
    assert store.rows(1, "small") == 0
    assert len(store.read(1, "small")[0]) == 0


def test_projects_and_embedders_are_apart(store: EmbeddingStore) -> None:
    store.append(1, "small", [1], vectors(1))
    store.append(1, "large", [1], vectors(2))
    store.append(2, "small", [1], vectors(3))
    assert store.versions_of(1) == ["large", "small"]
    store.delete_project(1)
    assert store.versions_of(1) == []
    assert store.read(2, "small")[1][0, 0] == 3


def test_nothing_is_stored_yet(store: EmbeddingStore) -> None:
    ids, stored = store.read(1, "small")
    assert ids.shape == (0,)
    assert len(stored) == 0
    store.append(1, "small", [1], vectors(1))
    ids, stored = store.read(1, "small", [])
    assert ids.shape == (0,)
    assert stored.shape == (0, 3)


def test_many_small_appends_keep_every_embedding(store: EmbeddingStore) -> None:
    count = SMALL_FRAGMENTS + 5
    for task_id in range(count):
        store.append(1, "small", [task_id], vectors(task_id))
    ids, stored = store.read(1, "small")
    assert ids.tolist() == list(range(count))
    assert stored[:, 0].tolist() == list(range(count))


def test_what_was_joined_does_not_stay_on_the_disk(
    store: EmbeddingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "SMALL_FRAGMENTS", 4)
    monkeypatch.setattr(embeddings, "FULL_FRAGMENT", 1_000)
    monkeypatch.setattr(embeddings, "OLD_VERSIONS", timedelta())
    wide = np.random.default_rng(0).random((100, 256), np.float32)
    for start in range(0, 5_000, 100):
        store.append(1, "small", range(start, start + 100), wide)
    ids, stored = store.read(1, "small")
    assert ids.tolist() == list(range(5_000))
    assert (stored == np.tile(wide, (50, 1))).all()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 1.2 * stored.nbytes
    assert len(files) < 30


def test_a_first_append_that_was_cut_short_leaves_an_empty_table(
    store: EmbeddingStore, tmp_path: Path
) -> None:
    (tmp_path / "embeddings" / "project-1" / "small.lance" / "data").mkdir(parents=True)
    assert store.task_ids(1, "small").tolist() == []
    assert store.read(1, "small")[0].tolist() == []
    store.append(1, "small", [7], vectors(7))
    assert store.task_ids(1, "small").tolist() == [7]


@pytest.mark.parametrize("part", ["data/*.lance", "_versions/*.manifest"])
@pytest.mark.parametrize("size", [0, 50])
def test_a_damaged_table_is_told_and_can_be_set_aside(
    store: EmbeddingStore, tmp_path: Path, part: str, size: int
) -> None:
    store.append(1, "vit.small", [7, 8], vectors(7, 8))
    for path in (tmp_path / "embeddings" / "project-1" / "vit.small.lance").glob(part):
        path.write_bytes(bytes(size))
    with pytest.raises(DamagedEmbeddings, match="computed anew") as raised:
        store.read(1, "vit.small")
    assert raised.value.embedder == "vit.small"
    store.set_aside(1, "vit.small")
    assert store.task_ids(1, "vit.small").tolist() == []
    store.append(1, "vit.small", [8], vectors(8))
    assert store.read(1, "vit.small")[0].tolist() == [8]
    assert (tmp_path / "embeddings" / "project-1" / "vit.small.damaged").is_dir()
    assert store.versions_of(1) == ["vit.small"]


def test_threads_append_at_once_without_a_loss(store: EmbeddingStore) -> None:
    """Lance itself loses rows where several make the table at once."""

    def append(task_id: int) -> None:
        store.append(1, "small", [task_id], vectors(task_id))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(append, range(24)))
    assert store.task_ids(1, "small").tolist() == list(range(24))
