"""Every image is embedded once, whatever happens in between."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from backend.simulation.dataset import Dataset
from backend.simulation.embeddings import BATCH, Embeddings, embed
from backend.simulation.hard_cases import Images

COUNT = 200


@dataclass
class Shelf:
    """Loads digits and counts. fail_at: the load that is interrupted; broken: positions that cannot be read."""

    loads: list[int] = field(default_factory=list)
    fail_at: int | None = None
    broken: frozenset[int] = frozenset()
    drawn: np.ndarray = field(default_factory=lambda: load_digits().images[:COUNT])

    def load(self, position: int) -> Image.Image:
        self.loads.append(position)
        if len(self.loads) == self.fail_at:
            raise KeyboardInterrupt
        if position in self.broken:
            raise ValueError(f"image {position} is torn")
        return Image.fromarray((self.drawn[position] * 15).astype(np.uint8))

    @property
    def dataset(self) -> Dataset:
        targets = np.eye(10, dtype=np.float32)[load_digits().target[:COUNT]]
        classes = tuple(map(str, range(10)))
        return Dataset("digits", classes, False, targets, self.load, {}, np.arange(50), "first digits")


def images(positions: list[int], variant: int = 0) -> Images:
    count = len(positions)
    targets = np.zeros((count, 10), np.float32)
    return Images(np.array(positions), np.full(count, variant), targets, np.zeros(count, np.int64))


ALL = images(list(range(COUNT)))


def embedded(shelf: Shelf, folder: Path, *parts: Images) -> Embeddings:
    return embed(shelf.dataset, parts, "self-supervised", folder, lambda done, total: None)


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Shelf]:
    """A folder with a trained embedder in it, and what it was trained on."""
    shelf = Shelf()
    folder = tmp_path_factory.mktemp("simulation")
    embedded(shelf, folder, images([60, 61]))
    return folder, shelf


@pytest.fixture
def folder(training: tuple[Path, Shelf]) -> Path:
    return training[0]


def test_the_embedder_is_trained_on_none_of_the_test_split(training: tuple[Path, Shelf]) -> None:
    loads = training[1].loads
    assert set(loads[:-2]) == set(range(50, COUNT))
    assert sorted(loads[-2:]) == [60, 61]


def test_images_are_embedded_once_and_found_by_their_place_in_the_dataset(folder: Path) -> None:
    shelf = Shelf()
    parts = [images([5, 5, 3]), images([3, 7]), images([5], variant=1)]
    found = embedded(shelf, folder, *parts)
    assert sorted(shelf.loads) == [3, 5, 5, 7]  # the second 5 for its near-duplicate
    vectors = found.vectors()
    assert len(vectors) == 4
    five, again, three = vectors[found.rows(parts[0])]
    assert np.array_equal(five, again)
    assert np.array_equal(three, vectors[found.rows(parts[1])][0])
    near = vectors[found.rows(parts[2])][0]
    assert not np.array_equal(near, five)
    assert near @ five > three @ five  # vectors are of length 1: the copy is the nearer one
    assert np.array_equal(embedded(Shelf(), folder, *parts).vectors(), vectors)


def test_what_is_embedded_is_not_loaded_again(folder: Path) -> None:
    first, second = Shelf(), Shelf()
    embedded(first, folder, images([1, 2, 3]))
    embedded(second, folder, images([3, 2, 1]))
    assert len(first.loads) == 3
    assert second.loads == []


def test_an_interrupted_embedding_goes_on_where_it_stopped(folder: Path) -> None:
    shelf = Shelf(fail_at=3 * BATCH)
    with pytest.raises(KeyboardInterrupt):
        embedded(shelf, folder, ALL)
    resumed = Shelf()
    found = embedded(resumed, folder, ALL)
    assert 0 < len(resumed.loads) < COUNT
    whole = replace(Shelf().dataset, fingerprint="the same under another name")
    expected = embed(whole, [ALL], "self-supervised", folder, lambda done, total: None)
    assert np.array_equal(found.vectors(), expected.vectors())


def test_broken_images_are_told_and_not_tried_again(folder: Path) -> None:
    shelf = Shelf(broken=frozenset({8, 150}))
    parts = [images(list(range(160)))]
    assert embedded(shelf, folder, *parts).broken == {8: "image 8 is torn", 150: "image 150 is torn"}
    shelf.loads.clear()
    assert embedded(shelf, folder, *parts).broken == {8: "image 8 is torn", 150: "image 150 is torn"}
    assert shelf.loads == []
