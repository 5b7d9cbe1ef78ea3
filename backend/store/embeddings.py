"""Embeddings: one vector an image, in Lance tables, one for each project and embedder."""

import logging
from collections.abc import Sequence
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

log = logging.getLogger(__name__)

COMPACT_AFTER_FRAGMENTS = 64  # many small appends make reading slow


class EmbeddingStore:
    """Embeddings of all projects under one folder.

    A task that was embedded twice (its image changed, or a worker was killed between writing and noting
    it) has two rows; the later one counts.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def append(
        self, project_id: int, embedder: str, task_ids: Sequence[int], vectors: NDArray[np.float32]
    ) -> None:
        """Add the embeddings (n, d) of n tasks."""
        flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
        table = pa.table(
            {
                "task_id": pa.array(list(task_ids), pa.int64()),
                "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
            }
        )
        path = self._path(project_id, embedder)
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset = lance.write_dataset(table, path, mode="append" if path.exists() else "create")
        if len(dataset.get_fragments()) >= COMPACT_AFTER_FRAGMENTS:
            dataset.optimize.compact_files()

    def read(
        self, project_id: int, embedder: str, task_ids: Sequence[int] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Task ids (n,) in ascending order and their embeddings (n, d); of all tasks, or of those given and stored."""
        path = self._path(project_id, embedder)
        if not path.exists():
            return np.empty(0, np.int64), np.empty((0, 0), np.float32)
        dataset = lance.dataset(path)
        chosen = None if task_ids is None else f"task_id IN ({','.join(map(str, task_ids)) or 'NULL'})"
        table = dataset.to_table(columns=["task_id", "vector"], filter=chosen)
        ids = table["task_id"].to_numpy()
        dimension = table.schema.field("vector").type.list_size
        vectors = table["vector"].combine_chunks().flatten().to_numpy().reshape(-1, dimension)
        # The last row of a task counts: look at them in reverse, where np.unique keeps the first.
        ids, last = np.unique(ids[::-1], return_index=True)
        return ids, vectors[len(vectors) - 1 - last]

    def versions_of(self, project_id: int) -> list[str]:
        """Names of the embedders that have embeddings of this project."""
        return sorted(path.stem for path in self._project(project_id).glob("*.lance"))

    def delete_project(self, project_id: int) -> None:
        """Forget the embeddings of a project."""
        import shutil

        shutil.rmtree(self._project(project_id), ignore_errors=True)

    def _project(self, project_id: int) -> Path:
        return self._folder / f"project-{project_id}"

    def _path(self, project_id: int, embedder: str) -> Path:
        return self._project(project_id) / f"{embedder}.lance"
