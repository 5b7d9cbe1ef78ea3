"""Embeddings: one vector an image, in Lance tables, one for each project and embedder.

Lance is imported when it is first used: a process that has loaded it may not fork, and gunicorn's first one does.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from backend.store.storage import Storage, StorageUnavailable

if TYPE_CHECKING:
    import lance
    import pyarrow as pa

log = logging.getLogger(__name__)

T = TypeVar("T")

FILTERED = 5_000  # with more tasks than these, all are read and the others dropped
BLOCK = 20_000  # rows that `blocks` gives at a time
SUFFIX = ".lance"
ATTEMPTS = 2  # to read a table before it counts as damaged: an object storage may have been out for a moment
SMALL_FRAGMENTS = 64  # as many small appends make reading slow
FULL_FRAGMENT = 50_000  # rows; not written again when small ones are joined
OLD_VERSIONS = timedelta(minutes=10)  # in which whoever reads one is done


class DamagedEmbeddings(Exception):
    """A table cannot be read.

    Attributes:
        embedder: whose embeddings it holds.
    """

    def __init__(self, table: str, embedder: str, error: Exception) -> None:
        super().__init__(f"The embeddings in {table} cannot be read ({error}); they are computed anew.")
        self.embedder = embedder


class EmbeddingStore:
    """Embeddings of all projects in one storage. Methods that read may raise DamagedEmbeddings.

    Every method may raise `storage.StorageUnavailable`. A task that was embedded twice (its image changed, or a
    worker was killed between writing and noting it) has two rows; the later one counts.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._writing = threading.Lock()

    def append(
        self,
        project_id: int,
        embedder: str,
        task_ids: Sequence[int] | NDArray[np.int64],
        vectors: NDArray[np.float32],
    ) -> None:
        """Add the embeddings (n, d) of n tasks."""
        import lance
        import pyarrow as pa

        flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
        table = pa.table(
            {
                "task_id": pa.array(np.asarray(task_ids, np.int64)),
                "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
            }
        )
        where = self._storage.at(_table(project_id, embedder))
        with self._writing:
            try:
                with self._storage.reaching(writing=True):
                    dataset = lance.write_dataset(
                        table, where, mode="append", storage_options=self._storage.lance_options()
                    )
            except (ValueError, OSError, StorageUnavailable):
                self.task_ids(project_id, embedder)  # tells where it is the table that is damaged
                raise
            if len(dataset.get_fragments()) - dataset.count_rows() // FULL_FRAGMENT >= SMALL_FRAGMENTS:
                _tidy(dataset)

    def task_ids(self, project_id: int, embedder: str) -> NDArray[np.int64]:
        """Ids (n,) of the tasks that have an embedding, ascending."""
        if not self._written(project_id, embedder):
            return np.empty(0, np.int64)
        opened = partial(self._open, project_id, embedder)
        table = self._reading(project_id, embedder, lambda: opened().to_table(columns=["task_id"]))
        ids: NDArray[np.int64] = np.unique(table["task_id"].to_numpy())
        return ids

    def read(
        self, project_id: int, embedder: str, task_ids: Sequence[int] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Task ids (n,) and their embeddings (n, d); of all tasks, ascending, or of those given, in their order.

        A task without a stored embedding is left out.
        """
        if not self._written(project_id, embedder):
            return np.empty(0, np.int64), np.empty((0, 0), np.float32)
        few = task_ids is not None and len(task_ids) <= FILTERED
        chosen = f"task_id IN ({','.join(map(str, task_ids or ())) or 'NULL'})" if few else None
        columns = ["task_id", "vector"]
        opened = partial(self._open, project_id, embedder)
        table = self._reading(project_id, embedder, lambda: opened().to_table(columns=columns, filter=chosen))
        ids = table["task_id"].to_numpy()
        vectors = _vectors(table)
        ids, rows = _last_rows(ids)
        if task_ids is not None:
            wanted = np.asarray(task_ids, np.int64)
            wanted = wanted[np.isin(wanted, ids)]
            rows, ids = rows[np.searchsorted(ids, wanted)], wanted
        return ids, vectors[rows]

    def rows(self, project_id: int, embedder: str) -> int:
        """How many rows are stored, an image that was embedded twice counted twice."""
        if not self._written(project_id, embedder):
            return 0
        opened = partial(self._open, project_id, embedder)
        return self._reading(project_id, embedder, lambda: int(opened().count_rows()))

    def blocks(
        self, project_id: int, embedder: str, start: int = 0
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """All rows from `start` on in the order in which they were appended, in blocks: ids (n,), embeddings (n, d)."""
        if not self._written(project_id, embedder):
            return
        dataset = self._reading(project_id, embedder, partial(self._open, project_id, embedder))
        for first in range(start, dataset.count_rows(), BLOCK):
            read = partial(dataset.to_table, limit=BLOCK, offset=first)
            table = self._reading(project_id, embedder, read)
            yield table["task_id"].to_numpy(), _vectors(table)

    def keep_only(self, project_id: int, embedder: str, task_ids: NDArray[np.int64]) -> None:
        """Forget the embeddings of all other tasks (n,), and of these all but the last; a block at a time is in memory.

        What another process appends meanwhile may be forgotten, too.
        """
        import lance
        import pyarrow as pa

        dataset = self._reading(project_id, embedder, partial(self._open, project_id, embedder))
        read = partial(dataset.to_table, columns=["task_id"])
        ids = self._reading(project_id, embedder, read)["task_id"].to_numpy()
        kept = np.isin(ids, task_ids)
        kept &= np.isin(np.arange(len(ids)), _last_rows(ids)[1])

        def blocks() -> Iterator[pa.RecordBatch]:
            for first in range(0, len(ids), BLOCK):
                block = dataset.to_table(limit=BLOCK, offset=first)
                yield from block.filter(pa.array(kept[first : first + BLOCK])).to_batches()

        remaining = pa.RecordBatchReader.from_batches(dataset.schema, blocks())
        with self._writing, self._storage.reaching(writing=True):
            where = self._storage.at(_table(project_id, embedder))
            lance.write_dataset(
                remaining, where, mode="overwrite", storage_options=self._storage.lance_options()
            )

    def versions_of(self, project_id: int) -> list[str]:
        """Names of the embedders that have embeddings of this project."""
        names = self._storage.names(_project(project_id))
        return [name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)]

    def set_aside(self, project_id: int, embedder: str) -> None:
        """Begin a table anew. The old one stays beside it, as `….damaged`, for a person to look at."""
        table = _table(project_id, embedder)
        aside = table.removesuffix(SUFFIX) + ".damaged"
        self._storage.move(table, aside)
        log.warning(
            "%s was damaged and is now %s; delete it when you do not need it",
            self._storage.at(table),
            self._storage.at(aside),
        )

    def delete(self, project_id: int, embedder: str) -> None:
        """Forget the embeddings of one embedder."""
        self._storage.delete(_table(project_id, embedder))

    def delete_project(self, project_id: int) -> None:
        """Forget the embeddings of a project."""
        self._storage.delete(_project(project_id))

    def _written(self, project_id: int, embedder: str) -> bool:
        """Whether anything was ever appended; a first append that was cut short leaves a folder."""
        versions = self._storage.names(f"{_table(project_id, embedder)}/_versions")
        return any(name.endswith(".manifest") for name in versions)

    def _open(self, project_id: int, embedder: str) -> Any:
        import lance

        where = self._storage.at(_table(project_id, embedder))
        return lance.dataset(where, storage_options=self._storage.lance_options())

    def _reading(self, project_id: int, embedder: str, read: Callable[[], T]) -> T:
        """What `read` gives of a table. Lance reports damage, and an outage, as one of many errors."""
        for attempt in range(ATTEMPTS):
            try:
                return read()
            except (ValueError, OSError) as error:
                self._storage.probe()
                if attempt == ATTEMPTS - 1:
                    where = self._storage.at(_table(project_id, embedder))
                    raise DamagedEmbeddings(where, embedder, error) from error
        raise AssertionError


def _project(project_id: int) -> str:
    return f"embeddings/project-{project_id}"


def _table(project_id: int, embedder: str) -> str:
    return f"{_project(project_id)}/{embedder}{SUFFIX}"


def _last_rows(ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct tasks (n,), ascending, of a table's rows, and the row of each that counts, its last (n,)."""
    distinct, last = np.unique(ids[::-1], return_index=True)  # which keeps the first
    return distinct, len(ids) - 1 - last


def _vectors(table: pa.Table) -> NDArray[np.float32]:
    dimension = table.schema.field("vector").type.list_size
    vectors: NDArray[np.float32] = (
        table["vector"].combine_chunks().flatten().to_numpy().reshape(-1, dimension)
    )
    return vectors


def _tidy(dataset: lance.LanceDataset) -> None:
    """Join small fragments, and delete those that were joined some time ago."""
    try:
        dataset.optimize.compact_files(target_rows_per_fragment=FULL_FRAGMENT)
        dataset.cleanup_old_versions(older_than=OLD_VERSIONS)
    except Exception:
        log.exception("could not compact %s; a later append tries again", dataset.uri)
