"""Regions from masks and from COCO's JSON."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from backend.simulation.dataset import Dataset
from backend.simulation.datasets import DatasetError, read_dataset
from backend.targets import Bitmap, MaskTarget
from tests.simulation.drawn import draw, draw_mask
from tests.simulation.test_datasets_detection import HEIGHT, INTO_ONE_FOLDER, WIDTH, coco, on_first

BACKGROUND, IGNORED = -1, -2


def target_of(dataset: Dataset, position: int) -> MaskTarget:
    assert dataset.truths is not None
    target = dataset.truths(position)
    assert isinstance(target, MaskTarget)
    return target


def pixels_of(region: Any) -> NDArray[np.bool_]:
    assert isinstance(region, Bitmap)
    encoded = {"size": [region.height, region.width], "counts": region.counts.encode()}
    decoded: NDArray[np.bool_] = coco_mask.decode(encoded).astype(bool)
    return decoded


def painted(dataset: Dataset, position: int) -> NDArray[np.int64]:
    """The column of the class at each pixel of the target."""
    target = target_of(dataset, position)
    picture = np.full((target.height, target.width), BACKGROUND)
    for region in target.regions:
        column = IGNORED if region.label is None else dataset.classes.index(region.label)
        picture[pixels_of(region)] = column
    return picture


def masks(folder: Path, *values: Any, classes: str | None = None) -> str:
    """Write an image and its mask for each; returns the folder."""
    for number, each in enumerate(values):
        height, width = np.shape(each)
        draw(folder / f"images/{number}.png", number, size=(width, height))
        draw_mask(folder / f"masks/{number}.png", each)
    if classes is not None:
        (folder / "classes.txt").write_text(classes)
    return str(folder)


class TestMasks:
    def test_classes_background_and_what_is_ignored(self, tmp_path: Path) -> None:
        path = masks(
            tmp_path, [[0, 1, 2, 3], [1, 1, 255, 3]], [[0, 0]], classes="Background\nsky\ncar\nVoid\n"
        )
        dataset = read_dataset(path, task="segmentation")
        assert dataset.task == "segmentation"
        assert dataset.multi_label
        assert dataset.classes == ("sky", "car")
        assert dataset.targets.tolist() == [[1, 1], [0, 0]]
        assert painted(dataset, 0).tolist() == [[-1, 0, 1, -2], [0, 0, -2, -2]]
        assert painted(dataset, 1).tolist() == [[-1, -1]]

    def test_a_class_of_one_pixel_is_there(self, tmp_path: Path) -> None:
        """For classification it takes a hundredth of the image."""
        values = np.zeros((20, 20), int)
        values[3, 4] = 1
        path = masks(tmp_path, values, np.zeros((20, 20)), classes="road\npole")
        dataset = read_dataset(path, task="segmentation")
        assert dataset.classes == ("road", "pole")
        assert dataset.targets.tolist() == [[1, 1], [1, 0]]

    def test_without_names_zero_is_background(self, tmp_path: Path) -> None:
        dataset = read_dataset(masks(tmp_path, [[0, 2]], [[10, 255]]), task="segmentation")
        assert dataset.classes == ("2", "10")
        assert painted(dataset, 0).tolist() == [[-1, 0]]
        assert painted(dataset, 1).tolist() == [[1, -2]]

    @INTO_ONE_FOLDER
    @given(
        values=arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 3))
    )
    def test_what_was_written_is_read(self, tmp_path: Path, values: NDArray[np.uint8]) -> None:
        path = masks(tmp_path, values, [[0, 1, 2, 3]], classes="a\nb\nc\nd")
        dataset = read_dataset(path, task="segmentation")
        assert dataset.classes == ("a", "b", "c", "d")
        assert np.array_equal(painted(dataset, 0), values)
        assert np.array_equal(np.flatnonzero(dataset.targets[0]), np.unique(values))
        assert (target_of(dataset, 0).height, target_of(dataset, 0).width) == values.shape

    def test_one_bit_masks(self, tmp_path: Path) -> None:
        path = masks(tmp_path, [[0, 0]], [[0, 0]], classes="background\nblob")
        Image.fromarray(np.array([[False, True]])).save(tmp_path / "masks/1.png")
        assert painted(read_dataset(path, task="segmentation"), 1).tolist() == [[-1, 0]]

    def test_a_mask_for_another_image_costs_its_image(self, tmp_path: Path) -> None:
        path = masks(tmp_path, np.eye(30), np.eye(30), np.eye(30))
        draw_mask(tmp_path / "masks/1.png", np.zeros((30, 60)))
        draw_mask(tmp_path / "masks/2.png", np.eye(15))  # of half the size
        dataset = read_dataset(path, task="segmentation")
        assert len(dataset) == 2
        assert dataset.broken[0].startswith("images/1.png is 30 × 30 pixels, but was labeled with 60 × 30")

    def test_masks_that_cannot_be_read_cost_their_images(self, tmp_path: Path) -> None:
        path = masks(tmp_path, *[[[0, 1]]] * 4)
        (tmp_path / "masks/1.png").unlink()
        (tmp_path / "masks/2.png").write_bytes(b"no mask")
        dataset = read_dataset(path, task="segmentation")
        assert len(dataset) == 2
        assert [sentence.split()[0] for sentence in dataset.broken] == ["masks/1.png", "masks/2.png"]
        (tmp_path / "masks/3.png").unlink()
        with pytest.raises(DatasetError, match=r"masks/3\.png is missing"):
            target_of(dataset, 1)

    def test_only_what_is_ignored(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="Nothing is marked"):
            read_dataset(masks(tmp_path, [[0, 255]], [[255, 255]]), task="segmentation")

    def test_the_fingerprint_follows_the_masks(self, tmp_path: Path) -> None:
        path = masks(tmp_path, [[0, 1]], [[0, 1]])
        first = read_dataset(path, task="segmentation").fingerprint
        assert read_dataset(path, task="segmentation").fingerprint == first
        os.utime(tmp_path / "masks/1.png", ns=(1, 1))
        assert read_dataset(path, task="segmentation").fingerprint != first

    def test_for_boxes_it_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="for classification and segmentation, not for detection"):
            read_dataset(masks(tmp_path, [[0, 1]], [[0, 1]]), task="detection")

    def test_beside_xml_files_the_task_decides(self, tmp_path: Path) -> None:
        path = masks(tmp_path, [[0, 1]], [[0, 1]])
        (tmp_path / "annotations").mkdir()
        for stem in "01":
            box = "<bndbox><xmin>1</xmin><ymin>0</ymin><xmax>2</xmax><ymax>1</ymax></bndbox>"
            text = f"<annotation><object><name>blob</name>{box}</object></annotation>"
            (tmp_path / f"annotations/{stem}.xml").write_text(text)
        assert read_dataset(path, task="segmentation").classes == ("1",)
        assert read_dataset(path, task="detection").classes == ("blob",)


def runs_of(mask: NDArray[np.bool_]) -> list[int]:
    """COCO's uncompressed run lengths."""
    flat = mask.ravel(order="F").astype(int)
    changes = np.flatnonzero(np.diff(np.concatenate([[0], flat])))
    return np.diff(np.concatenate([[0], changes, [len(flat)]])).tolist()


POINT = st.tuples(st.floats(0, WIDTH), st.floats(0, HEIGHT))
POLYGON = st.lists(POINT, min_size=3, max_size=7).map(
    lambda points: [float(v) for point in points for v in point]
)
MASK = arrays(np.bool_, (HEIGHT, WIDTH)).filter(lambda mask: mask.any())


class TestCOCO:
    @INTO_ONE_FOLDER
    @given(
        drawn=st.lists(
            st.one_of(
                st.lists(POLYGON, min_size=1, max_size=2),
                MASK.map(lambda mask: {"size": [HEIGHT, WIDTH], "counts": runs_of(mask)}),
                MASK.map(
                    lambda mask: {
                        "size": [HEIGHT, WIDTH],
                        "counts": coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"].decode(),
                    }
                ),
            ),
            min_size=1,
            max_size=3,
        )
    )
    def test_agrees_with_pycocotools(self, tmp_path: Path, drawn: list[Any]) -> None:
        path = coco(
            tmp_path, [on_first(segmentation=each, category_id=5 + n) for n, each in enumerate(drawn)]
        )
        theirs = COCO(path)
        dataset = read_dataset(path, task="segmentation")
        target = target_of(dataset, 0)
        assert (target.width, target.height) == (WIDTH, HEIGHT)
        assert [region.label for region in target.regions] == ["cat", "cow", "dog"][: len(drawn)]
        for region, annotation in zip(target.regions, theirs.loadAnns(range(len(drawn))), strict=True):
            assert np.array_equal(pixels_of(region), theirs.annToMask(annotation))

    def test_later_regions_cover_earlier_ones_and_crowds_count(self, tmp_path: Path) -> None:
        left = [[0, 0, 20, 0, 20, 20, 0, 20]]
        everything = {"size": [HEIGHT, WIDTH], "counts": [0, WIDTH * HEIGHT]}
        annotations = [
            on_first(segmentation=everything, iscrowd=1),
            on_first(segmentation=left, category_id=5),
        ]
        dataset = read_dataset(coco(tmp_path, annotations), task="segmentation")
        assert dataset.classes == ("dog", "cat")
        assert dataset.targets.tolist() == [[1, 1], [0, 0]]
        picture = painted(dataset, 0)
        assert (picture[:, :20] == 1).all()
        assert (picture[:, 20:] == 0).all()

    def test_what_has_no_area_is_left_out(self, tmp_path: Path) -> None:
        nothing = {"size": [HEIGHT, WIDTH], "counts": [WIDTH * HEIGHT]}
        annotations = [
            on_first(segmentation=[[1, 1, 5, 5]], category_id=5),
            on_first(segmentation=nothing, category_id=6),
            on_first(segmentation=[[1, 1, 5, 5], [1, 1, 5, 1, 5, 5]]),
        ]
        dataset = read_dataset(coco(tmp_path, annotations), task="segmentation")
        assert dataset.classes == ("dog",)
        assert len(target_of(dataset, 0).regions) == 1

    def test_polygons_far_outside_take_no_memory(self, tmp_path: Path) -> None:
        far = [[-9e8, -9e8, 9e8, -9e8, 9e8, 9e8, -9e8, 9e8]]
        dataset = read_dataset(coco(tmp_path, [on_first(segmentation=far)]), task="segmentation")
        assert (painted(dataset, 0) == 0).all()

    @pytest.mark.parametrize(
        ("segmentation", "why"),
        [
            (None, "it must be a list of polygons, or run lengths"),
            ([], "it must be a list of polygons, or run lengths"),
            ([1, 2, 3, 4, 5, 6], "a polygon must be a list of numbers"),
            ([[1, 2, 3, 4, 5, 6, 7]], "a polygon must be a list of numbers"),
            ([[1, 2, 3, 4, 5, float("inf")]], "a polygon must be a list of numbers"),
            ({"size": [WIDTH, HEIGHT], "counts": [0, 800]}, "its size must be the image's, [20, 40]"),
            ({"size": [HEIGHT, WIDTH], "counts": [0, 799]}, "its run lengths do not sum to 40 × 20 pixels"),
            ({"size": [HEIGHT, WIDTH], "counts": [900, -100]}, "its run lengths do not sum"),
            ({"size": [HEIGHT, WIDTH], "counts": []}, "its run lengths do not sum"),
            ({"size": [HEIGHT, WIDTH], "counts": [0, 800.0]}, "its counts must be"),
            ({"size": [HEIGHT, WIDTH], "counts": "0i"}, "its run lengths do not sum"),
            ({"size": [HEIGHT, WIDTH], "counts": "\n"}, "its run lengths do not sum"),
            ({"size": [HEIGHT, WIDTH], "counts": "o" * 99}, "its run lengths do not sum"),
            ({"size": [HEIGHT, WIDTH], "counts": ""}, "its run lengths do not sum"),
        ],
    )
    def test_what_is_no_region_costs_its_image(self, tmp_path: Path, segmentation: Any, why: str) -> None:
        square = [[0, 0, 9, 0, 9, 9, 0, 9]]
        annotations = [on_first(segmentation=segmentation), on_first(segmentation=square, image_id=1)]
        dataset = read_dataset(coco(tmp_path, annotations, images=3), task="segmentation")
        assert len(dataset) == 2
        [sentence] = dataset.broken
        assert sentence.startswith(
            f"0.png has an annotation (id 0) whose 'segmentation' cannot be read: {why}"
        )

    def test_a_set_of_boxes_is_refused(self, tmp_path: Path) -> None:
        path = coco(tmp_path, [on_first(bbox=[1, 1, 2, 2]), on_first(bbox=[1, 1, 2, 2], image_id=1)])
        with pytest.raises(
            DatasetError, match=r"2 were left out, the first because: 0\.png has an annotation"
        ):
            read_dataset(path, task="segmentation")

    def test_the_fingerprint_follows_the_regions(self, tmp_path: Path) -> None:
        prints = {
            read_dataset(coco(tmp_path, [on_first(segmentation=[part])]), task="segmentation").fingerprint
            for part in ([1, 1, 9, 1, 9, 9], [1, 1, 9, 1, 9, 8])
        }
        assert len(prints) == 2
