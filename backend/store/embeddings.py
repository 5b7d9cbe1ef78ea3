"""Embeddings: one vector an image, in Lance tables, one for each project and embedder."""

import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import lance
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

log = logging.getLogger(__name__)

T = TypeVar("T")

FILTERED = 5_000  # with more tasks than these, all are read and the others dropped
BLOCK = 20_000  # rows that `blocks` gives at a time
COMPACT_AFTER_FRAGMENTS = 64  # many small appends make reading slow


class DamagedEmbeddings(Exception):
    """A table cannot be read.

    Attributes:
        embedder: whose embeddings it holds.
    """

    def __init__(self, path: Path, embedder: str, error: Exception) -> None:
        super().__init__(f"The embeddings in {path} cannot be read ({error}); they are computed anew.")
        self.embedder = embedder


class EmbeddingStore:
    """Embeddings of all projects under one folder. Methods that read may raise DamagedEmbeddings.

    A task that was embedded twice (its image changed, or a worker was killed between writing and noting
    it) has two rows; the later one counts.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writing = threading.Lock()

    def append(
        self,
        project_id: int,
        embedder: str,
        task_ids: Sequence[int] | NDArray[np.int64],
        vectors: NDArray[np.float32],
    ) -> None:
        """Add the embeddings (n, d) of n tasks."""
        flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
        table = pa.table(
            {
                "task_id": pa.array(np.asarray(task_ids, np.int64)),
                "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
            }
        )
        path = self._path(project_id, embedder)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._writing:
            dataset = lance.write_dataset(table, path, mode="append")
            if len(dataset.get_fragments()) >= COMPACT_AFTER_FRAGMENTS:
                try:
                    dataset.optimize.compact_files()
                except Exception:
                    log.exception("could not compact %s; a later append tries again", path)

    def task_ids(self, project_id: int, embedder: str) -> NDArray[np.int64]:
        """Ids (n,) of the tasks that have an embedding, ascending."""
        path = self._path(project_id, embedder)
        if not _written(path):
            return np.empty(0, np.int64)
        table = _reading(path, lambda: lance.dataset(path).to_table(columns=["task_id"]))
        ids: NDArray[np.int64] = np.unique(table["task_id"].to_numpy())
        return ids

    def read(
        self, project_id: int, embedder: str, task_ids: Sequence[int] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Task ids (n,) and their embeddings (n, d); of all tasks, ascending, or of those given, in their order.

        A task without a stored embedding is left out.
        """
        path = self._path(project_id, embedder)
        if not _written(path):
            return np.empty(0, np.int64), np.empty((0, 0), np.float32)
        few = task_ids is not None and len(task_ids) <= FILTERED
        chosen = f"task_id IN ({','.join(map(str, task_ids or ())) or 'NULL'})" if few else None
        columns = ["task_id", "vector"]
        table = _reading(path, lambda: lance.dataset(path).to_table(columns=columns, filter=chosen))
        ids = table["task_id"].to_numpy()
        vectors = _vectors(table)
        # The last row of a task counts: look at them in reverse, where np.unique keeps the first.
        ids, last = np.unique(ids[::-1], return_index=True)
        rows = len(vectors) - 1 - last
        if task_ids is not None:
            wanted = np.asarray(task_ids, np.int64)
            wanted = wanted[np.isin(wanted, ids)]
            rows, ids = rows[np.searchsorted(ids, wanted)], wanted
        return ids, vectors[rows]

    def rows(self, project_id: int, embedder: str) -> int:
        """How many rows are stored, an image that was embedded twice counted twice."""
        path = self._path(project_id, embedder)
        return _reading(path, lambda: lance.dataset(path).count_rows()) if _written(path) else 0

    def blocks(
        self, project_id: int, embedder: str, start: int = 0
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """All rows from `start` on in the order in which they were appended, in blocks: ids (n,), embeddings (n, d)."""
        path = self._path(project_id, embedder)
        if not _written(path):
            return
        dataset = _reading(path, lambda: lance.dataset(path))
        for first in range(start, dataset.count_rows(), BLOCK):
            table = _reading(path, partial(dataset.to_table, limit=BLOCK, offset=first))
            yield table["task_id"].to_numpy(), _vectors(table)

    def versions_of(self, project_id: int) -> list[str]:
        """Names of the embedders that have embeddings of this project."""
        return sorted(path.stem for path in self._project(project_id).glob("*.lance"))

    def set_aside(self, project_id: int, embedder: str) -> None:
        """Begin a table anew. The old one stays beside it, as `….damaged`, for a person to look at."""
        path = self._path(project_id, embedder)
        aside = path.with_suffix(".damaged")
        shutil.rmtree(aside, ignore_errors=True)
        path.replace(aside)
        log.warning("%s was damaged and is now %s; delete it when you do not need it", path, aside)

    def delete(self, project_id: int, embedder: str) -> None:
        """Forget the embeddings of one embedder."""
        shutil.rmtree(self._path(project_id, embedder), ignore_errors=True)

    def delete_project(self, project_id: int) -> None:
        """Forget the embeddings of a project."""
        shutil.rmtree(self._project(project_id), ignore_errors=True)

    def _project(self, project_id: int) -> Path:
        return self._folder / f"project-{project_id}"

    def _path(self, project_id: int, embedder: str) -> Path:
        return self._project(project_id) / f"{embedder}.lance"


def _written(path: Path) -> bool:
    """Whether anything was ever appended; a first append that was cut short leaves a folder."""
    return any((path / "_versions").glob("*.manifest"))


def _vectors(table: pa.Table) -> NDArray[np.float32]:
    dimension = table.schema.field("vector").type.list_size
    vectors: NDArray[np.float32] = (
        table["vector"].combine_chunks().flatten().to_numpy().reshape(-1, dimension)
    )
    return vectors


def _reading(path: Path, read: Callable[[], T]) -> T:
    """What `read` gives; Lance reports damage as one of many errors."""
    try:
        return read()
    except (ValueError, OSError) as error:
        raise DamagedEmbeddings(path, path.stem, error) from error
