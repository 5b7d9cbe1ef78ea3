"""The embeddings of all images of a simulation, computed once and kept in its folder."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.engine.local import map_images
from backend.engine.work import Work, reason_of
from backend.learners.embedding import Embedder, load_embedder
from backend.simulation.dataset import Dataset
from backend.simulation.hard_cases import Images, near_duplicate

TRAINING_IMAGES = 1_000  # that an embedder trained on the dataset's own images sees
BATCH = 64


@dataclass(frozen=True)
class Embeddings:
    """Where the embeddings are; small, to be handed to other processes.

    keys: (n,) of the embedded images, ascending. broken: why images, by their positions, could not be read.
    """

    path: Path
    embedder: str
    dimensions: int
    images: int
    keys: NDArray[np.int64]
    broken: dict[int, str]

    def vectors(self) -> NDArray[np.float32]:
        """(n, dimensions), on disk: processes share the memory."""
        return _vectors(self.path, len(self.keys), self.dimensions, "r")

    def rows(self, images: Images) -> NDArray[np.int64]:
        """Where the vectors of images are."""
        return np.searchsorted(self.keys, _keys(images, self.images))


def embed(
    dataset: Dataset,
    parts: Iterable[Images],
    embedding: str,
    folder: Path,
    on_progress: Callable[[int, int], None],
) -> Embeddings:
    """Embed every image of `parts` once, or take up where an earlier call stopped.

    on_progress: is told how many images are done, and of how many.

    Raises BackboneUnavailable where there is no such embedder.
    """
    keys = np.unique(np.concatenate([_keys(part, len(dataset)) for part in parts]))
    identity = sha256(f"{dataset.fingerprint}|{embedding}|".encode() + keys.tobytes()).hexdigest()[:16]
    path, state_path = folder / f"embeddings-{identity}.float32", folder / f"embeddings-{identity}.json"
    state = _read_state(state_path)
    if state["done"] < len(keys):
        embedder = load_embedder(embedding, folder / "embedder", lambda: _sample(dataset))
        if state["embedder"] != embedder.name or not path.exists():
            state = {"embedder": embedder.name, "dimensions": embedder.dimension, "done": 0, "broken": {}}
            _vectors(path, len(keys), embedder.dimension, "w+")
        _embed_rest(dataset, keys, embedder, path, state, state_path, on_progress)
    on_progress(len(keys), len(keys))
    broken = {int(position): reason for position, reason in state["broken"].items()}
    return Embeddings(path, state["embedder"], state["dimensions"], len(dataset), keys, broken)


def _embed_rest(
    dataset: Dataset,
    keys: NDArray[np.int64],
    embedder: Embedder,
    path: Path,
    state: dict[str, Any],
    state_path: Path,
    on_progress: Callable[[int, int], None],
) -> None:
    vectors = _vectors(path, len(keys), embedder.dimension, "r+")

    def load(row: int) -> Image.Image:
        variant, position = divmod(int(keys[row]), len(dataset))
        image = dataset.load(position)
        return near_duplicate(image, position, variant, dataset.task) if variant else image

    on_progress(state["done"], len(keys))
    rest = range(state["done"], len(keys))
    for batch in map_images(rest, Work(load, embedder.embed, (ValueError,)), batch_size=BATCH):
        if batch.outputs is not None:
            vectors[batch.items] = batch.outputs
        for row, error in batch.broken:
            state["broken"][str(int(keys[row]) % len(dataset))] = reason_of(error)
        state["done"] += len(batch.items) + len(batch.broken)
        vectors.flush()
        _write_state(state_path, state)
        on_progress(state["done"], len(keys))


def _keys(images: Images, count: int) -> NDArray[np.int64]:
    """One number for an image and its variant: position + variant × count, with `count` images in the dataset."""
    return images.positions + images.variants * count


def _vectors(path: Path, rows: int, dimensions: int, mode: Literal["r", "r+", "w+"]) -> np.memmap[Any, Any]:
    return np.memmap(path, np.float32, mode, shape=(rows, dimensions))


def _read_state(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"embedder": None, "done": 0, "broken": {}}
    state: dict[str, Any] = json.loads(path.read_text())
    return state


def _write_state(path: Path, state: dict[str, Any]) -> None:
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(state))
    unfinished.replace(path)


def _sample(dataset: Dataset) -> Sequence[Image.Image]:
    """Random images, for an embedder to be trained on; none of a test split that comes with the data."""
    rest = np.setdiff1d(np.arange(len(dataset)), [] if dataset.test is None else dataset.test)
    chosen = np.random.default_rng(0).permutation(rest)[:TRAINING_IMAGES]
    images = []
    for position in chosen.tolist():
        try:
            images.append(dataset.load(position))
        except ValueError:
            continue  # reported when it is to be embedded
    return images
