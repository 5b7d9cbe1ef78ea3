"""Data sets in folders: of classes, and of images with masks."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backend.simulation.dataset import Dataset
from backend.simulation.datasets import DatasetError, read_dataset
from tests.simulation.drawn import draw, draw_bomb, draw_mask


def labels(dataset: Dataset) -> list[set[str]]:
    return [{dataset.classes[c] for c in np.flatnonzero(row)} for row in dataset.targets]


def greys(dataset: Dataset) -> list[int]:
    return [dataset.load(position).convert("L").getpixel((0, 0)) for position in range(len(dataset))]


class TestClassFolders:
    def test_a_folder_for_each_class(self, tmp_path: Path):
        for value, name in ((10, "s10/a.png"), (20, "s2/a.JPG"), (30, "s2/deep/er/b.bmp")):
            draw(tmp_path / name, value)
        dataset = read_dataset(str(tmp_path))
        assert dataset.classes == ("s2", "s10")
        assert dict(zip(greys(dataset), labels(dataset), strict=True)) == {
            10: {"s10"},
            20: {"s2"},
            30: {"s2"},
        }
        assert dataset.name == tmp_path.name
        assert dataset.test is None
        assert not dataset.multi_label
        assert dataset.targets.dtype == np.float32

    def test_splits_above_the_classes(self, tmp_path: Path):
        for value, name in enumerate(["train/a/1.png", "Test/a/1.png", "train/b/1.png", "val/b/2.png"]):
            draw(tmp_path / name, value)
        dataset = read_dataset(str(tmp_path))
        assert dataset.classes == ("a", "b")
        assert [greys(dataset)[position] for position in dataset.test] == [1]
        assert len(dataset) == 4

    def test_without_a_test_split_the_validation_split_is_it(self, tmp_path: Path):
        for value, name in enumerate(["train/a/1.png", "train/b/1.png", "valid/b/2.png"]):
            draw(tmp_path / name, value)
        dataset = read_dataset(str(tmp_path))
        assert [greys(dataset)[position] for position in dataset.test] == [2]

    def test_classes_may_be_called_train_and_test(self, tmp_path: Path):
        for value, name in enumerate(["train/locomotive.png", "test/tube.png"]):
            draw(tmp_path / name, value)
        dataset = read_dataset(str(tmp_path))
        assert dataset.classes == ("test", "train")
        assert dataset.test is None

    def test_what_is_hidden_or_no_image_is_passed_over(self, tmp_path: Path):
        for name in ["a/1.png", "b/1.png", "a/.2.png", ".c/3.png", "__MACOSX/a/4.png", "b/@eaDir/5.png"]:
            draw(tmp_path / name)
        (tmp_path / "a/notes.txt").write_text("notes")
        (tmp_path / "empty").mkdir()
        dataset = read_dataset(str(tmp_path))
        assert len(dataset) == 2
        assert dataset.classes == ("a", "b")
        assert dataset.broken == ()

    def test_images_are_upright(self, tmp_path: Path):
        draw(tmp_path / "a/1.png")
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by a quarter
        (tmp_path / "b").mkdir()
        Image.new("RGB", (8, 6)).save(tmp_path / "b/1.jpg", exif=exif)
        dataset = read_dataset(str(tmp_path))
        assert [dataset.load(position).size for position in (0, 1)] == [(8, 6), (6, 8)]

    def test_broken_images_are_left_out_and_told(self, tmp_path: Path):
        for name in ["a/1.png", "b/1.png"]:
            draw(tmp_path / name)
        (tmp_path / "a/2.jpg").write_bytes(b"no image")
        (tmp_path / "a/3.jpg").write_bytes(b"")
        draw_bomb(tmp_path / "a/4.png")
        (tmp_path / "a/5.tif").write_bytes(b"II*\0")
        dataset = read_dataset(str(tmp_path))
        assert len(dataset) == 2
        assert Counter(sentence.split()[0] for sentence in dataset.broken) == {
            "a/2.jpg": 1,
            "a/3.jpg": 1,
            "a/4.png": 1,
            "a/5.tif": 1,
        }
        assert "100,000,000 pixels: make it smaller" in dataset.broken[2]

    def test_an_image_that_breaks_off_is_told_when_it_is_loaded(self, tmp_path: Path):
        draw(tmp_path / "a/1.png")
        whole = draw(tmp_path / "b/1.png", size=(64, 64))
        whole.write_bytes(whole.read_bytes()[:-40])
        dataset = read_dataset(str(tmp_path))
        with pytest.raises(DatasetError, match=r"b/1\.png is damaged \(.*\): replace it"):
            dataset.load(1)

    def test_a_file_that_vanishes_is_told_when_it_is_loaded(self, tmp_path: Path):
        draw(tmp_path / "a/1.png")
        draw(tmp_path / "b/1.png")
        dataset = read_dataset(str(tmp_path))
        (tmp_path / "b/1.png").unlink()
        with pytest.raises(DatasetError, match=r"b/1\.png cannot be read"):
            dataset.load(1)

    def test_only_broken_images(self, tmp_path: Path):
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "1.png").write_bytes(b"")
        with pytest.raises(
            DatasetError, match=r"no labeled image that can be read\. 2 were left out, the first"
        ):
            read_dataset(str(tmp_path))

    def test_one_class_left(self, tmp_path: Path):
        draw(tmp_path / "a/1.png")
        draw(tmp_path / "b/1.png").write_bytes(b"")
        with pytest.raises(DatasetError, match=r"two at least are needed\. 1 were left out"):
            read_dataset(str(tmp_path))

    def test_two_classes_of_which_one_is_only_tested(self, tmp_path: Path):
        for name in ["train/a/1.png", "test/a/1.png", "test/b/1.png"]:
            draw(tmp_path / name)
        with pytest.raises(DatasetError, match="of one class, 'a'"):
            read_dataset(str(tmp_path))


class TestFaces:
    def test_a_folder_for_each_person(self, tmp_path: Path):
        for name in ("s1/1.png", "s1/2.png", "s10/1.png", "s2/1.png"):
            draw(tmp_path / name)
        dataset = read_dataset(str(tmp_path), task="face")
        assert dataset.task == "face"
        assert dataset.classes == ("s1", "s2", "s10")
        assert labels(dataset) == [{"s1"}, {"s1"}, {"s10"}, {"s2"}]
        assert dataset.truths is None
        assert dataset.fingerprint != read_dataset(str(tmp_path)).fingerprint

    def test_people_whom_only_the_test_split_shows(self, tmp_path: Path):
        """They are not in the pool, and so unknown to any learner."""
        for name in ("train/ann/1.png", "train/bob/1.png", "test/ann/1.png", "test/eve/1.png"):
            draw(tmp_path / name)
        dataset = read_dataset(str(tmp_path), task="face")
        assert dataset.classes == ("ann", "bob", "eve")
        assert dataset.test is not None
        pool = np.setdiff1d(np.arange(len(dataset)), dataset.test)
        assert dataset.targets[pool].sum(axis=0).tolist() == [1, 1, 0]

    def test_several_classes_an_image_are_refused(self, tmp_path: Path):
        np.savez(tmp_path / "a.npz", images=np.zeros((4, 2, 2), np.uint8), labels=np.tri(4, 3))
        with pytest.raises(DatasetError, match="may have several classes: for faces"):
            read_dataset(str(tmp_path / "a.npz"), task="face")
        draw(tmp_path / "set/images/1.png")
        draw_mask(tmp_path / "set/masks/1.png", [[0, 1]])
        with pytest.raises(DatasetError, match="not for face: people's names are read as classes"):
            read_dataset(str(tmp_path / "set"), task="face")


class TestMasks:
    def test_the_classes_that_cover_enough(self, tmp_path: Path):
        """Of 200 pixels, two are the least that count."""
        for stem, pixels in (("1", 1), ("2", 2)):
            draw(tmp_path / f"images/{stem}.jpg")
            mask = np.zeros((10, 20))
            mask[0, :pixels] = 1
            draw_mask(tmp_path / f"masks/{stem}.png", mask)
        (tmp_path / "classes.txt").write_text("sky\ncar\n")
        dataset = read_dataset(str(tmp_path))
        assert labels(dataset) == [{"sky"}, {"sky", "car"}]
        assert dataset.multi_label

    def test_unlabelled_and_255_are_no_classes(self, tmp_path: Path):
        for stem, row in (("1", [0, 1, 2]), ("2", [1, 1, 255]), ("3", [2, 2, 255])):
            draw(tmp_path / f"images/{stem}.png")
            draw_mask(tmp_path / f"annotations/{stem}.png", [row])
        (tmp_path / "classes.txt").write_text("sky\ncar\nUnlabelled\n")
        dataset = read_dataset(str(tmp_path))
        assert dataset.classes == ("sky", "car")
        assert labels(dataset) == [{"sky", "car"}, {"car"}, set()]

    def test_without_names_the_values_are_the_classes(self, tmp_path: Path):
        for stem, row in (("1", [0, 10]), ("2", [2, 255])):
            draw(tmp_path / f"images/{stem}.png")
            draw_mask(tmp_path / f"masks/{stem}.png", [row])
        dataset = read_dataset(str(tmp_path))
        assert dataset.classes == ("0", "2", "10")
        assert labels(dataset) == [{"0", "10"}, {"2"}]

    @pytest.mark.parametrize("mode", ["1", "P"])
    def test_masks_of_one_bit_and_with_a_palette(self, tmp_path: Path, mode: str):
        for stem, row in (("1", [0, 0]), ("2", [1, 1])):
            draw(tmp_path / f"images/{stem}.png")
            mask = Image.fromarray(np.array([row], np.uint8))
            mask = mask.point(lambda value: value * 255).convert("1") if mode == "1" else mask
            if mode == "P":
                mask.putpalette([0, 0, 0, 255, 0, 0])
            (tmp_path / "masks").mkdir(exist_ok=True)
            mask.save(tmp_path / f"masks/{stem}.png")
        assert labels(read_dataset(str(tmp_path))) == [{"0"}, {"1"}]

    @pytest.mark.parametrize(("files", "test"), [(("test", "val"), ["2.x"]), (("val",), ["3"])])
    def test_splits(self, tmp_path: Path, files: tuple[str, ...], test: list[str]):
        for value, stem in enumerate(["1", "2.x", "3"]):
            draw(tmp_path / f"images/{stem}.png", value + 1)
            draw_mask(tmp_path / f"masks/{stem}.png", [[value]])
        (tmp_path / "splits").mkdir()
        for file, name in (("test", "2.x"), ("val", "images/3.png")):
            if file in files:
                (tmp_path / f"splits/{file}.txt").write_text(f"{name}\n\n")
        dataset = read_dataset(str(tmp_path))
        stems = ["1", "2.x", "3"]
        assert [stems[greys(dataset)[position] - 1] for position in dataset.test] == test
        assert len(dataset) == 3

    def test_images_without_a_mask_that_can_be_read_are_left_out(self, tmp_path: Path):
        for value, stem in enumerate("12345678"):
            draw(tmp_path / f"images/{stem}.png")
            draw_mask(tmp_path / f"masks/{stem}.png", [[value % 2]])
        (tmp_path / "masks/3.png").unlink()
        (tmp_path / "masks/4.png").write_bytes(b"no mask")
        draw(tmp_path / "masks/5.png")
        draw_bomb(tmp_path / "masks/6.png")
        whole = draw_mask(tmp_path / "masks/7.png", np.zeros((50, 50)))
        whole.write_bytes(whole.read_bytes()[:-20])
        dataset = read_dataset(str(tmp_path))
        assert len(dataset) == 3
        for sentence, expected in zip(
            dataset.broken,
            [
                "masks/3.png is missing",
                "masks/4.png is no PNG",
                "masks/5.png is in mode RGB",
                "masks/6.png has more than",
                "masks/7.png is damaged",
            ],
            strict=True,
        ):
            assert sentence.startswith(expected)

    @pytest.mark.parametrize(
        ("classes", "split", "message"),
        [
            ("sky", "1", "has the value 1, but classes.txt names 1 classes"),
            ("sky\n\ncar", "1", "no two alike"),
            ("sky\nsky", "1", "no two alike"),
            ("", "1", "the name of a class on each line"),
            ("sky\ncar", "4", "names '4', but there is no such image"),
            ("sky\ncar", "1\n2", "are in its test split"),
        ],
    )
    def test_lists_that_do_not_fit(self, tmp_path: Path, classes: str, split: str, message: str):
        for value, stem in enumerate("12"):
            draw(tmp_path / f"images/{stem}.png")
            draw_mask(tmp_path / f"masks/{stem}.png", [[value]])
        (tmp_path / "splits").mkdir()
        (tmp_path / "splits/test.txt").write_text(split)
        (tmp_path / "classes.txt").write_text(classes)
        with pytest.raises(DatasetError, match=message):
            read_dataset(str(tmp_path))

    def test_classes_that_are_no_text(self, tmp_path: Path):
        draw(tmp_path / "images/1.png")
        draw_mask(tmp_path / "masks/1.png", [[0]])
        (tmp_path / "classes.txt").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(DatasetError, match="no text in UTF-8"):
            read_dataset(str(tmp_path))

    def test_the_same_labels_everywhere(self, tmp_path: Path):
        for stem in "12":
            draw(tmp_path / f"images/{stem}.png")
            draw_mask(tmp_path / f"masks/{stem}.png", [[0, 1]])
        with pytest.raises(DatasetError, match="the same labels: there is no difference to learn"):
            read_dataset(str(tmp_path))
