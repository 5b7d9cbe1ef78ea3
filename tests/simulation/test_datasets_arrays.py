"""Data sets in arrays: scikit-learn's digits, .npz files, idx files."""

import gzip
import struct
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from backend.simulation.datasets import DatasetError, npz_file, read_dataset

GREY = np.arange(4 * 6 * 5, dtype=np.uint8).reshape(4, 6, 5)


def test_digits():
    dataset = read_dataset("digits")
    drawn = load_digits()
    assert dataset.classes == tuple("0123456789")
    assert (dataset.targets.argmax(axis=1) == drawn.target).all()
    assert dataset.targets.sum() == len(dataset) == 1797
    image = dataset.load(1796)
    assert (image.size, image.mode) == ((8, 8), "L")
    assert np.allclose(np.asarray(image) / 255, drawn.images[1796] / 16, atol=1 / 255)


class TestNpz:
    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    @pytest.mark.parametrize(
        "images", [GREY, np.stack([GREY] * 3, -1), GREY[..., None], np.asfortranarray(GREY)]
    )
    def test_images(self, tmp_path: Path, save: Callable[..., None], images: np.ndarray):
        save(tmp_path / "a.npz", images=images, labels=[0, 1, 1, 0])
        dataset = read_dataset(str(tmp_path / "a.npz"))
        assert [dataset.load(position).size for position in range(4)] == [(5, 6)] * 4
        assert (np.asarray(dataset.load(3)) == images[3].squeeze()).all()
        assert dataset.name == "a.npz"

    def test_what_is_not_compressed_is_mapped_into_memory(self, tmp_path: Path):
        for save in (np.savez, np.savez_compressed):
            save(tmp_path / f"{save.__name__}.npz", images=GREY)
        with npz_file.NpzFile(tmp_path / "savez.npz") as file:
            images = file.array("images", mapped=True)
            assert (images == GREY).all()
            assert isinstance(images.base, np.memmap)
        with npz_file.NpzFile(tmp_path / "savez_compressed.npz") as file:
            assert (file.array("images", mapped=True) == GREY).all()

    @pytest.mark.parametrize(
        ("labels", "classes", "expected"),
        [
            ([2, 10, 2, 10], None, ("2", "10")),
            ([[2], [10], [2], [10]], None, ("2", "10")),
            ([-1, 1, 1, 1], None, ("-1", "1")),
            ([1, 0, 1, 0], ["cat", "dog"], ("cat", "dog")),
            (["s10", "s2", "s2", "s2"], None, ("s2", "s10")),
            (["cat", "dog", "dog", "dog"], ["dog", "cat", "cow"], ("dog", "cat")),
            ([[0, 1], [1, 0], [0, 1], [0, 1]], ["cat", "dog"], ("cat", "dog")),
        ],
    )
    def test_single_label(self, tmp_path: Path, labels: Any, classes: Any, expected: tuple[str, ...]):
        optional = {} if classes is None else {"classes": classes}
        np.savez(tmp_path / "a.npz", images=GREY, labels=labels, **optional)
        dataset = read_dataset(str(tmp_path / "a.npz"))
        assert dataset.classes == expected
        assert not dataset.multi_label
        flat = np.asarray(labels)
        flat = flat.argmax(axis=1) if flat.shape[1:] == (2,) else flat.ravel()
        names = [
            str(classes[label]) if classes and not isinstance(label, str) else str(label)
            for label in flat.tolist()
        ]
        assert [dataset.classes[column] for column in dataset.targets.argmax(axis=1)] == names

    def test_multi_label(self, tmp_path: Path):
        labels = np.array([[0, 1, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]], np.bool_)
        np.savez(tmp_path / "a.npz", images=GREY, labels=labels, classes=["wet", "dark", "never"])
        dataset = read_dataset(str(tmp_path / "a.npz"))
        assert dataset.classes == ("wet", "dark")
        assert dataset.multi_label
        assert (dataset.targets == labels[:, :2]).all()

    def test_a_test_split_and_metadata(self, tmp_path: Path):
        np.savez(
            tmp_path / "a.npz",
            images=GREY,
            labels=["a", "b", "a", "b"],
            test_images=GREY[:2, :3, :3],
            test_labels=["b", "b"],
            weather=["sun", "rain", "rain", "sun"],
            test_weather=["rain", "rain"],
            camera=[1, 1, 2, 2],
            name=["1", "2", "3", "4"],
            embeddings=np.zeros((4, 7)),
            version=np.array(3),
        )
        dataset = read_dataset(str(tmp_path / "a.npz"))
        assert dataset.test.tolist() == [4, 5]
        assert dataset.load(5).size == (3, 3)
        assert set(dataset.groups) == {"weather", "camera", "name"}
        assert dataset.groups["weather"].tolist() == ["sun", "rain", "rain", "sun", "rain", "rain"]
        assert dataset.groups["camera"].tolist() == ["1", "1", "2", "2", "", ""]

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"x": GREY, "y": [0]}, "no array 'images' and no array 'labels'; it has: 'x', 'y'"),
            ({"labels": [0, 1, 0, 1]}, "no array 'images'"),
            ({"images": GREY, "labels": [0, 1]}, "4 images, but there are 2 labels"),
            ({"images": GREY / 255, "labels": [0, 1, 0, 1]}, "is float64: convert it to uint8"),
            ({"images": GREY[0], "labels": [0, 1] * 3}, r"must be \(n, height, width\)"),
            ({"images": np.zeros((2, 3, 9, 9), np.uint8), "labels": [0, 1]}, r"must be \(n, height, width\)"),
            ({"images": GREY[:, :0], "labels": [0, 1, 0, 1]}, "have no pixels"),
            ({"images": GREY, "labels": [0.5, 1, 0, 1]}, "labels is float64"),
            ({"images": GREY, "labels": np.eye(4) * 2}, "labels is float64"),
            (
                {"images": GREY, "labels": [0, 1, 2, 1], "classes": ["a", "b"]},
                "go from 0 to 2, but classes has 2",
            ),
            ({"images": GREY, "labels": [-1, 1, 0, 1], "classes": ["a", "b"]}, "go from -1 to 1"),
            ({"images": GREY, "labels": np.eye(4), "classes": ["a", "b"]}, "4 columns, and classes 2"),
            ({"images": GREY, "labels": [1, 1, 1, 1]}, "of one class, '1'"),
            ({"images": GREY[:0], "labels": np.zeros(0, int)}, "no labeled image"),
            ({"images": GREY, "labels": np.array([0, 1, None, 1])}, "labels holds Python objects"),
            ({"images": GREY, "labels": [0, 1, 0, 1], "test_images": GREY}, "but no test_labels"),
            (
                {"images": GREY, "labels": [0, 1, 0, 1], "test_images": GREY, "test_labels": ["a"] * 4},
                "must be of one kind",
            ),
        ],
    )
    def test_arrays_that_do_not_fit(self, tmp_path: Path, arrays: dict[str, Any], message: str):
        np.savez(tmp_path / "a.npz", **arrays)
        with pytest.raises(DatasetError, match=message):
            read_dataset(str(tmp_path / "a.npz"))

    def test_objects_are_never_unpickled(self, tmp_path: Path):
        class Trap:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path.touch, (tmp_path / "sprung",))

        trap = np.empty(4, object)
        trap[:] = [Trap()] * 4
        np.savez(tmp_path / "a.npz", images=GREY, labels=[0, 1, 0, 1], weather=trap)
        with pytest.raises(DatasetError, match="weather holds Python objects"):
            read_dataset(str(tmp_path / "a.npz"))
        assert not (tmp_path / "sprung").exists()

    def test_a_header_that_promises_too_much(self, tmp_path: Path):
        """8 TB, for which no memory may be taken."""
        header = BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "|u1", "fortran_order": False, "shape": (10**12, 2, 4)}
        )
        self._write(tmp_path / "a.npz", header.getvalue())
        with pytest.raises(DatasetError, match="images is damaged"):
            read_dataset(str(tmp_path / "a.npz"))

    def test_a_file_that_unpacks_to_too_much(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(npz_file, "MAX_UNPACKED_BYTES", 100)
        np.savez_compressed(tmp_path / "a.npz", images=GREY, labels=[0, 1, 0, 1])
        with pytest.raises(DatasetError, match="unpacks to 120 bytes: write it uncompressed"):
            read_dataset(str(tmp_path / "a.npz"))

    @pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04"])
    def test_no_npz(self, tmp_path: Path, content: bytes):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(DatasetError, match=r"damaged, or no \.npz file"):
            read_dataset(str(tmp_path / "a.npz"))

    @pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00\x10\x00{'descr': '|u1'}"])
    def test_no_array_inside(self, tmp_path: Path, content: bytes):
        self._write(tmp_path / "a.npz", content)
        with pytest.raises(DatasetError, match="images is damaged"):
            read_dataset(str(tmp_path / "a.npz"))

    def test_damaged_bytes_inside(self, tmp_path: Path):
        path = tmp_path / "a.npz"
        images = np.random.default_rng(0).integers(0, 255, (4, 40, 40), np.uint8)
        np.savez_compressed(path, images=images, labels=[0, 1, 0, 1])
        content = bytearray(path.read_bytes())
        content[3000:3010] = bytes(10)
        path.write_bytes(content)
        with pytest.raises(DatasetError, match="images is damaged"):
            read_dataset(str(path))

    def _write(self, path: Path, images: bytes) -> None:
        labels = BytesIO()
        np.save(labels, np.array([0, 1, 0, 1]))
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", images)
            archive.writestr("labels.npy", labels.getvalue())


def idx(array: np.ndarray, shape: tuple[int, ...] | None = None, kind: int = 8) -> bytes:
    shape = shape or array.shape
    return struct.pack(f">HBB{len(shape)}I", 0, kind, len(shape), *shape) + array.tobytes()


class TestIdx:
    LABELS = np.array([3, 7, 3, 3], np.uint8)

    def write(self, folder: Path, prefix: str = "train-", packed: bool = False, mark: str = "-idx") -> None:
        for name, array in ((f"images{mark}3-ubyte", GREY), (f"labels{mark}1-ubyte", self.LABELS)):
            path = folder / f"{prefix}{name}{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))

    @pytest.mark.parametrize("packed", [False, True])
    @pytest.mark.parametrize("mark", ["-idx", ".idx"])
    def test_a_training_and_a_test_split(self, tmp_path: Path, packed: bool, mark: str):
        self.write(tmp_path, "train20k-", packed, mark)
        self.write(tmp_path, "t10k-", packed, mark)
        dataset = read_dataset(str(tmp_path))
        assert dataset.classes == ("3", "7")
        tests = set(dataset.test.tolist())
        assert len(dataset) == 8
        assert len(tests) == 4
        for part in (sorted(tests), sorted(set(range(8)) - tests)):
            assert dataset.targets[part].argmax(axis=1).tolist() == [0, 1, 0, 0]
            assert (np.stack([np.asarray(dataset.load(position)) for position in part]) == GREY).all()

    def test_one_split_and_names(self, tmp_path: Path):
        self.write(tmp_path, "")
        (tmp_path / "classes.txt").write_text("\n".join("abcdefgh"))
        dataset = read_dataset(str(tmp_path))
        assert dataset.classes == ("d", "h")
        assert dataset.test is None

    def test_a_file_of_which_both_forms_are_there_counts_once(self, tmp_path: Path):
        self.write(tmp_path)
        self.write(tmp_path, packed=True)
        assert len(read_dataset(str(tmp_path))) == 4

    def test_too_few_names(self, tmp_path: Path):
        self.write(tmp_path)
        (tmp_path / "classes.txt").write_text("a\nb\n")
        with pytest.raises(DatasetError, match=r"has the class 7, but classes\.txt names 2"):
            read_dataset(str(tmp_path))

    def test_two_sets_in_a_folder(self, tmp_path: Path):
        self.write(tmp_path, "letters-train-")
        self.write(tmp_path, "digits-train-")
        with pytest.raises(DatasetError, match=r"several sets \(digits-train-, letters-train-\)"):
            read_dataset(str(tmp_path))

    def test_without_labels(self, tmp_path: Path):
        self.write(tmp_path)
        (tmp_path / "train-labels-idx1-ubyte").unlink()
        with pytest.raises(DatasetError, match="has no labels: add train-labels-idx1-ubyte or"):
            read_dataset(str(tmp_path))

    @pytest.mark.parametrize(
        ("images", "message"),
        [
            (idx(GREY[:3]), "has 3 images, but train-labels-idx1-ubyte 4 labels"),
            (idx(GREY, (4, 6, 6)), "its size is not the one that its header tells"),
            (idx(GREY, (10**9, 10**9, 10**9)), "its size is not the one that its header tells"),
            (idx(GREY, (4, 0, 5))[:16], "0 × 5 pixels"),
            (idx(GREY, kind=13), "no idx file of bytes in 3 dimensions"),
            (idx(GREY, (24, 5)), "no idx file of bytes in 3 dimensions"),
            (b"\0\0", "ends within its header"),
        ],
    )
    @pytest.mark.parametrize("packed", [False, True])
    def test_images_that_do_not_fit(self, tmp_path: Path, images: bytes, message: str, packed: bool):
        self.write(tmp_path)
        path = tmp_path / "train-images-idx3-ubyte"
        path.unlink()
        if packed:
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(images))
            message = "too large to be read gzipped|" + message
        else:
            path.write_bytes(images)
        with pytest.raises(DatasetError, match=message):
            read_dataset(str(tmp_path))

    def test_a_gzipped_file_that_breaks_off(self, tmp_path: Path):
        self.write(tmp_path, packed=True)
        path = tmp_path / "train-images-idx3-ubyte.gz"
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(DatasetError, match="is damaged: download it again"):
            read_dataset(str(tmp_path))

    def test_a_gzipped_file_of_something_else(self, tmp_path: Path):
        self.write(tmp_path, packed=True)
        (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"<html>not found</html>")
        with pytest.raises(DatasetError, match="is damaged: download it again"):
            read_dataset(str(tmp_path))
