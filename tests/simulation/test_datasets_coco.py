"""COCO's JSON of object annotations."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.simulation.datasets import DatasetError, read_dataset
from tests.simulation.drawn import draw


def coco(folder: Path, **changes: Any) -> str:
    """Write four images, of cats and dogs, at night and by day; returns the path of the JSON."""
    images = [
        {"id": 10 * n, "file_name": f"{n}.png", "width": 8, "height": 6, "license": n % 2, "hour": hour}
        for n, hour in enumerate(["night", "day", "day", "day"])
    ]
    annotations = [
        {"id": 1, "image_id": 0, "category_id": 7, "bbox": [0, 0, 1, 1]},
        {"id": 2, "image_id": 0, "category_id": 7, "bbox": [2, 2, 1, 1]},
        {"id": 3, "image_id": 10, "category_id": 5, "bbox": [0, 0, 1, 1]},
        {"id": 4, "image_id": 10, "category_id": 7, "bbox": [0, 0, 1, 1]},
        {"id": 5, "image_id": 999, "category_id": 5, "bbox": [0, 0, 1, 1]},
    ]
    categories = [{"id": 7, "name": "dog"}, {"id": 5, "name": "cat"}, {"id": 6, "name": "cow"}]
    content = {"info": {}, "images": images, "annotations": annotations, "categories": categories} | changes
    (folder / "instances.json").write_text(json.dumps(content))
    return str(folder / "instances.json")


def test_an_image_has_the_categories_in_it(tmp_path: Path):
    for place, value in (("0.png", 10), ("images/1.png", 20), ("2.png", 30), ("images/3.png", 40)):
        draw(tmp_path / place, value)
    dataset = read_dataset(coco(tmp_path))
    assert dataset.classes == ("dog", "cat")
    assert dataset.multi_label
    assert dataset.targets.tolist() == [[1, 0], [1, 1], [0, 0], [0, 0]]
    assert [dataset.load(position).getpixel((0, 0))[0] for position in range(4)] == [10, 20, 30, 40]
    assert set(dataset.groups) == {"hour"}
    assert dataset.groups["hour"].tolist() == ["night", "day", "day", "day"]
    assert dataset.broken == ()


@pytest.mark.parametrize(
    "file_name", ["val/1.png", "../../elsewhere/1.png", "/data/1.png", "C:\\data\\1.png"]
)
def test_where_an_image_may_be(tmp_path: Path, file_name: str):
    draw(tmp_path / "0.png")
    draw(tmp_path / "images/1.png")
    images = [{"id": 0, "file_name": "0.png"}, {"id": 10, "file_name": file_name}]
    dataset = read_dataset(coco(tmp_path, images=images))
    assert dataset.targets.tolist() == [[1, 0], [1, 1]]


def test_images_that_are_not_there_are_left_out(tmp_path: Path):
    draw(tmp_path / "0.png")
    draw(tmp_path / "2.png")
    draw(tmp_path.parent / "outside.png")
    names = ["0.png", "gone.png", "2.png", "../outside.png", "", "a\0b", "x" * 5000]
    images = [{"id": 10 * n, "file_name": name} for n, name in enumerate(names)]
    dataset = read_dataset(coco(tmp_path, images=images))
    assert dataset.targets.tolist() == [[1], [0]]
    assert len(dataset.broken) == 5
    assert dataset.broken[0].startswith("gone.png is neither beside")


def test_two_images_that_may_be_the_same_file(tmp_path: Path):
    draw(tmp_path / "images/0.png")
    images = [{"id": 0, "file_name": "day/0.png"}, {"id": 10, "file_name": "night/0.png"}]
    with pytest.raises(DatasetError, match=r"0\.png may be day/0\.png or night/0\.png"):
        read_dataset(coco(tmp_path, images=images))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": {}}, "'images' must be a list of objects"),
        ({"annotations": [1]}, "'annotations' must be a list of objects"),
        ({"categories": [{"id": 7}]}, "an entry of 'categories' has no 'name' that is str"),
        ({"images": [{"id": 1, "file_name": 3}]}, "an entry of 'images' has no 'file_name' that is str"),
        ({"annotations": [{"image_id": "x", "category_id": 7}]}, "no 'image_id' that is int"),
        ({"annotations": [{"image_id": 0, "category_id": 8}]}, "the category 8, which its categories lack"),
        ({"annotations": []}, "the same labels: there is no difference to learn"),
        ({"images": []}, "no labeled image that can be read"),
    ],
)
def test_content_that_does_not_fit(tmp_path: Path, changes: dict[str, Any], message: str):
    for n in range(4):
        draw(tmp_path / f"{n}.png")
    with pytest.raises(DatasetError, match=message):
        read_dataset(coco(tmp_path, **changes))


def test_one_category_is_enough_where_some_images_lack_it(tmp_path: Path):
    for n in range(4):
        draw(tmp_path / f"{n}.png")
    annotations = [{"image_id": 0, "category_id": 5}]
    dataset = read_dataset(coco(tmp_path, annotations=annotations))
    assert dataset.classes == ("cat",)
    assert np.array_equal(dataset.targets[:, 0], [1, 0, 0, 0])
