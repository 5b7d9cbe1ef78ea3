"""What all formats share: recognising them, limits, metadata, fingerprints."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from backend.simulation.dataset import Dataset
from backend.simulation.datasets import DatasetError, read_dataset
from backend.simulation.datasets.class_names import in_natural_order
from tests.simulation.drawn import draw

N = 40


def write(path: Path, tests: int = 0, **changes: object) -> Dataset:
    """An .npz of 40 images, each a pixel that holds its position."""
    arrays: dict[str, object] = {
        "images": np.arange(N, dtype=np.uint8).reshape(N, 1, 1),
        "labels": np.arange(N) % 2,
    }
    if tests:
        arrays["test_images"] = np.full((tests, 1, 1), 255, np.uint8)
        arrays["test_labels"] = np.arange(tests) % 3
    np.savez(path, **{**arrays, **changes})
    return read_dataset(str(path))


class TestLimit:
    def test_draws_from_all_but_the_test_split(self, tmp_path: Path):
        write(tmp_path / "a.npz", tests=5)
        dataset = read_dataset(str(tmp_path / "a.npz"), 10)
        pixels = [dataset.load(position).getpixel((0, 0)) for position in range(len(dataset))]
        assert len(dataset.test) == 5
        assert pixels[10:] == [255] * 5
        drawn = pixels[:10]
        assert drawn == sorted(set(drawn)) != list(range(10))
        assert dataset.targets[:10].argmax(axis=1).tolist() == [value % 2 for value in drawn]
        again = read_dataset(str(tmp_path / "a.npz"), 10)
        assert again.fingerprint == dataset.fingerprint

    def test_is_uniform(self, tmp_path: Path):
        """Of the digits, 600 of 1,797: a tenth of each class at least and no more than it has."""
        dataset = read_dataset("digits", 600)
        assert len(dataset) == 600
        counts = dataset.targets.sum(axis=0)
        assert ((counts > 40) & (counts < 85)).all()

    def test_keeps_the_classes(self, tmp_path: Path):
        labels = np.zeros(N, int)
        labels[:2] = (1, 2)
        write(tmp_path / "a.npz", labels=labels)
        assert read_dataset(str(tmp_path / "a.npz"), 39).classes == ("0", "1", "2")

    def test_larger_than_the_set(self):
        assert len(read_dataset("digits", 5000)) == 1797

    @pytest.mark.parametrize("limit", [1, 0, -3])
    def test_too_small(self, limit: int):
        with pytest.raises(DatasetError, match="two images at least"):
            read_dataset("digits", limit)


def test_metadata_that_divides_the_images(tmp_path: Path):
    write(tmp_path / "a.npz")
    dataset = write(
        tmp_path / "b.npz",
        weather=np.arange(N) % 3,
        constant=np.zeros(N),
        unique=np.arange(N),
        almost_unique=np.minimum(np.arange(N), N - 2),
    )
    assert set(dataset.groups) == {"weather", "almost_unique"}
    assert dataset.groups["weather"].tolist() == [str(n % 3) for n in range(N)]


class TestFingerprint:
    def test_of_arrays_follows_their_content(self, tmp_path: Path):
        first = write(tmp_path / "a.npz").fingerprint
        assert write(tmp_path / "b.npz").fingerprint == first
        images = np.arange(N, dtype=np.uint8).reshape(N, 1, 1)
        images[7] += 1
        assert write(tmp_path / "b.npz", images=images).fingerprint != first
        assert write(tmp_path / "b.npz", labels=(np.arange(N) + 1) % 2).fingerprint != first
        assert write(tmp_path / "b.npz", classes=["a", "b"]).fingerprint != first
        assert write(tmp_path / "b.npz", tests=2).fingerprint != first

    def test_of_files_follows_names_sizes_and_times(self, tmp_path: Path):
        paths = [draw(tmp_path / name) for name in ("set/a/1.png", "set/b/1.png")]
        source = str(tmp_path / "set")
        first = read_dataset(source).fingerprint
        assert read_dataset(source).fingerprint == first
        (tmp_path / "set").rename(tmp_path / "moved")
        assert read_dataset(str(tmp_path / "moved")).fingerprint == first
        (tmp_path / "moved").rename(tmp_path / "set")
        os.utime(paths[0], ns=(1, 1))
        second = read_dataset(source).fingerprint
        assert second != first
        paths[1].rename(paths[1].with_name("2.png"))
        assert read_dataset(source).fingerprint not in (first, second)


class TestUnknown:
    def test_a_path_that_is_not_there(self, tmp_path: Path):
        with pytest.raises(DatasetError, match=r"There is no .*nowhere") as refusal:
            read_dataset(str(tmp_path / "nowhere"))
        for known in ("digits", "project:3", "masks/", "idx files", ".npz", "COCO"):
            assert known in str(refusal.value)

    def test_a_folder_tells_what_was_seen(self, tmp_path: Path):
        for name in "abcdefgh":
            (tmp_path / name).mkdir()
        (tmp_path / "notes.txt").write_text("")
        with pytest.raises(
            DatasetError, match=r"folders a, b, c, d, e, f and 2 more and the files notes\.txt"
        ):
            read_dataset(str(tmp_path))

    def test_a_folder_tells_what_may_be_meant(self, tmp_path: Path):
        draw(tmp_path / "images/a/1.png")
        draw(tmp_path / "images/b/1.png")
        (tmp_path / "export.json").write_text("[]")
        with pytest.raises(DatasetError, match=r"perhaps \S*/images, \S*/export.json is meant"):
            read_dataset(str(tmp_path))

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"{", "no valid JSON"),
            (b"\xff\xfe", "no text in UTF-8"),
            (b"[" * 100_000, "no valid JSON"),
            (b"[]", "holds a list of 0"),
            (
                b'[{"image": "a.png", "choice": "x"}]',
                "a list of 1, the first an object with 'image', 'choice'",
            ),
            (b'{"a": 1}', "an object with 'a'"),
            (b"3", "holds a int"),
        ],
    )
    def test_json_of_something_else(self, tmp_path: Path, content: bytes, message: str):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(DatasetError, match=message):
            read_dataset(str(tmp_path / "a.json"))

    def test_a_file_of_another_kind(self, tmp_path: Path):
        (tmp_path / "a.zip").write_bytes(b"PK")
        with pytest.raises(DatasetError, match=r"is a \.zip file"):
            read_dataset(str(tmp_path / "a.zip"))

    @pytest.mark.parametrize("source", ["project:", "project:x", "project:-1", "project:1/../2"])
    def test_no_project(self, source: str):
        with pytest.raises(DatasetError, match="names no project"):
            read_dataset(source)

    @pytest.mark.parametrize(
        ("source", "message"),
        [("x" * 5000, "File name too long"), ("a\0b", "There is no"), ("", "There is no|known")],
    )
    def test_what_can_be_no_path(
        self, source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(DatasetError, match=message):
            read_dataset(source)


def test_a_byte_order_mark_does_no_harm(tmp_path: Path):
    for name in ("0.png", "1.png"):
        draw(tmp_path / name)
    content = {
        "images": [{"id": 0, "file_name": "0.png"}, {"id": 1, "file_name": "1.png"}],
        "annotations": [{"image_id": 0, "category_id": 1}],
        "categories": [{"id": 1, "name": "Kälte"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content, ensure_ascii=False), "utf-8-sig")
    assert read_dataset(str(tmp_path / "a.json")).classes == ("Kälte",)


def test_natural_order():
    names = ["s10", "s2", "b", "2", "10", "s2a", "²", "S1", ""]
    assert in_natural_order(names) == ["", "2", "10", "S1", "b", "s2", "s2a", "s10", "²"]
