"""Boxes from COCO's JSON and from XML as of Pascal VOC."""

import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO

from backend.simulation.dataset import Dataset
from backend.simulation.datasets import DatasetError, read_dataset
from backend.targets import Box, BoxTarget
from tests.simulation.drawn import draw

WIDTH, HEIGHT = 40, 20
INTO_ONE_FOLDER = settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def coco(folder: Path, annotations: list[dict[str, Any]], images: int = 2, **image: Any) -> str:
    """Write so many images of 40 × 20 pixels, 0.png and so on, and their JSON; returns its path."""
    for number in range(images):
        draw(folder / f"images/{number}.png", number, size=(WIDTH, HEIGHT))
    size = {"width": WIDTH, "height": HEIGHT}
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", **size, **image} for n in range(images)],
        "annotations": [{"id": number, **annotation} for number, annotation in enumerate(annotations)],
        "categories": [{"id": 7, "name": "dog"}, {"id": 5, "name": "cat"}, {"id": 6, "name": "cow"}],
    }
    (folder / "instances.json").write_text(json.dumps(content))
    return str(folder / "instances.json")


def on_first(**annotation: Any) -> dict[str, Any]:
    return {"image_id": 0, "category_id": 7, **annotation}


def boxes(dataset: Dataset, position: int) -> list[Box]:
    assert dataset.truths is not None
    target = dataset.truths(position)
    assert isinstance(target, BoxTarget)
    assert (target.annotators, target.agreement) == (1, 1.0)
    return list(target.boxes)


class TestCOCO:
    def test_boxes_in_shares_of_the_image(self, tmp_path: Path) -> None:
        annotations = [
            on_first(bbox=[10, 5, 20, 10]),
            on_first(bbox=[0, 0, 1.5, 20], category_id=5),
            on_first(bbox=[0, 0, 40, 20], iscrowd=1, category_id=6),
            on_first(bbox=[3, 3, 0, 2]),
        ]
        dataset = read_dataset(coco(tmp_path, annotations), task="detection")
        assert dataset.task == "detection"
        assert dataset.multi_label
        assert dataset.classes == ("dog", "cat")
        assert dataset.targets.tolist() == [[1, 1], [0, 0]]
        assert boxes(dataset, 0) == [Box("dog", 0.25, 0.25, 0.75, 0.75), Box("cat", 0, 0, 0.0375, 1)]
        assert boxes(dataset, 1) == []

    @INTO_ONE_FOLDER
    @given(
        drawn=st.lists(
            st.tuples(st.sampled_from((5, 6, 7)), *[st.integers(0, 1023) for _ in range(4)]), max_size=5
        )
    )
    def test_agree_with_pycocotools(self, tmp_path: Path, drawn: list[tuple[int, ...]]) -> None:
        """Boxes on a fine grid within the image."""
        annotations = [on_first(bbox=[0, 0, 4, 4], image_id=1)]
        for category, *places in drawn:
            (left, right), (top, bottom) = (sorted(places[:2]), sorted(places[2:]))
            x, y = left * WIDTH / 1024, top * HEIGHT / 1024
            width, height = (right - left + 1) * WIDTH / 1024, (bottom - top + 1) * HEIGHT / 1024
            annotations.append(on_first(bbox=[x, y, width, height], category_id=category))
        path = coco(tmp_path, annotations)
        theirs = COCO(path)
        found = boxes(read_dataset(path, task="detection"), 0)
        expected = theirs.loadAnns(theirs.getAnnIds(imgIds=[0]))
        assert len(found) == len(expected)
        for box, annotation in zip(found, expected, strict=True):
            assert box.label == theirs.loadCats(annotation["category_id"])[0]["name"]
            pixels = np.array([box.left, box.top, box.right - box.left, box.bottom - box.top])
            assert pixels * [WIDTH, HEIGHT, WIDTH, HEIGHT] == pytest.approx(annotation["bbox"])

    @pytest.mark.parametrize(
        "segmentation",
        [
            [[4, 2, 12, 2, 12, 10, 4, 10]],
            {
                "size": [HEIGHT, WIDTH],
                "counts": [4 * HEIGHT + 2, 8, *[12, 8] * 7, WIDTH * HEIGHT - 11 * HEIGHT - 10],
            },
        ],
    )
    def test_a_region_without_a_box_gives_its_own(self, tmp_path: Path, segmentation: Any) -> None:
        path = coco(tmp_path, [on_first(segmentation=segmentation)])
        assert boxes(read_dataset(path, task="detection"), 0) == [Box("dog", 0.1, 0.1, 0.3, 0.5)]

    def test_boxes_over_the_edge_are_cut_and_those_outside_left_out(self, tmp_path: Path) -> None:
        annotations = [on_first(bbox=[-10, 10, 20, 1e8]), on_first(bbox=[50, 5, 9, 9])]
        assert boxes(read_dataset(coco(tmp_path, annotations), task="detection"), 0) == [
            Box("dog", 0, 0.5, 0.25, 1)
        ]

    @pytest.mark.parametrize(
        "annotation",
        [
            {},
            {"bbox": None},
            {"bbox": [1, 2, 3]},
            {"bbox": [1, 2, 3, "4"]},
            {"bbox": [1, 2, 3, float("nan")]},
            {"bbox": [1, 2, 3, 10**400]},
            {"bbox": {"x": 1}},
        ],
    )
    def test_what_is_no_box_costs_its_image(self, tmp_path: Path, annotation: dict[str, Any]) -> None:
        annotations = [on_first(**annotation), on_first(bbox=[0, 0, 1, 1], image_id=1)]
        dataset = read_dataset(coco(tmp_path, annotations, images=3), task="detection")
        assert len(dataset) == 2
        assert dataset.broken == (
            "0.png has an annotation (id 0) whose 'bbox' cannot be read: it must be four numbers: left, top, width "
            "and height.",
        )

    def test_without_a_size_the_images_own_counts(self, tmp_path: Path) -> None:
        for size in ({"width": None, "height": None}, {"width": 0, "height": 0}, {"width": "40"}):
            path = coco(tmp_path, [on_first(bbox=[10, 5, 20, 10])], **size)
            assert boxes(read_dataset(path, task="detection"), 0) == [Box("dog", 0.25, 0.25, 0.75, 0.75)]

    def test_an_image_that_was_resized_keeps_its_boxes(self, tmp_path: Path) -> None:
        path = coco(tmp_path, [on_first(bbox=[100, 50, 200, 101])], width=400, height=202)
        assert boxes(read_dataset(path, task="detection"), 0) == [
            Box("dog", 0.25, pytest.approx(50 / 202), 0.75, pytest.approx(151 / 202))
        ]

    def test_an_image_of_another_shape_than_was_labeled_is_left_out(self, tmp_path: Path) -> None:
        """As one that was labeled before it was turned upright."""
        path = coco(
            tmp_path, [on_first(bbox=[1, 1, 2, 2]), on_first(bbox=[1, 1, 2, 2], image_id=1)], images=3
        )
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by a quarter
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "images/0.png", exif=exif)
        dataset = read_dataset(path, task="detection")
        assert len(dataset) == 2
        assert dataset.broken == (
            "0.png is 20 × 40 pixels, but was labeled with 40 × 20: give the image that was labeled, upright.",
        )

    def test_nothing_to_find(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"Nothing is marked in the images of instances\.json"):
            read_dataset(coco(tmp_path, []), task="detection")

    def test_the_same_class_in_every_image_is_something_to_find(self, tmp_path: Path) -> None:
        annotations = [on_first(bbox=[1, 1, 2, 2]), on_first(bbox=[1, 1, 2, 2], image_id=1)]
        assert read_dataset(coco(tmp_path, annotations), task="detection").classes == ("dog",)

    def test_the_fingerprint_follows_the_boxes(self, tmp_path: Path) -> None:
        path = coco(tmp_path, [on_first(bbox=[1, 1, 2, 2])])
        first = read_dataset(path, task="detection").fingerprint
        assert read_dataset(path, task="detection").fingerprint == first
        content = json.loads(Path(path).read_text())
        content["annotations"][0]["bbox"][2] = 3
        Path(path).write_text(json.dumps(content))
        assert read_dataset(path, task="detection").fingerprint != first
        assert read_dataset(path).fingerprint != first


OBJECT = "<object><name>{}</name><bndbox>{}</bndbox></object>"
SIZE = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"


def xml_object(label: str, *edges: object) -> str:
    names = ("xmin", "ymin", "xmax", "ymax")
    return OBJECT.format(
        label, "".join(f"<{name}>{edge}</{name}>" for name, edge in zip(names, edges, strict=True))
    )


def voc(folder: Path, *objects: str, size: str = SIZE) -> str:
    """Write an image for each text of objects, 0.png and so on, with its XML; returns the folder."""
    (folder / "annotations").mkdir(exist_ok=True)
    for number, text in enumerate(objects):
        draw(folder / f"images/{number}.png", number, size=(WIDTH, HEIGHT))
        xml = f"<annotation><filename>other.png</filename>{size}{text}</annotation>"
        (folder / f"annotations/{number}.xml").write_text(xml)
    return str(folder)


class TestVOC:
    def test_places_are_pixels_counted_from_one(self, tmp_path: Path) -> None:
        """The whole image goes from 1 to its size."""
        objects = xml_object("s10", 1, 1, WIDTH, HEIGHT) + xml_object("s2", 11, 6, 20, 15.0)
        dataset = read_dataset(voc(tmp_path, objects, ""), task="detection")
        assert dataset.classes == ("s2", "s10")
        assert dataset.targets.tolist() == [[1, 1], [0, 0]]
        assert boxes(dataset, 0) == [Box("s10", 0, 0, 1, 1), Box("s2", 0.25, 0.25, 0.5, 0.75)]
        assert boxes(dataset, 1) == []
        assert dataset.broken == ()

    @INTO_ONE_FOLDER
    @given(
        drawn=st.lists(
            st.tuples(
                st.text(st.characters(categories=["L", "N", "S", "P"]), min_size=1, max_size=8),
                st.tuples(st.integers(1, WIDTH), st.integers(1, WIDTH)).filter(
                    lambda edges: edges[0] != edges[1]
                ),
                st.tuples(st.integers(1, HEIGHT), st.integers(1, HEIGHT)).filter(
                    lambda edges: edges[0] != edges[1]
                ),
            ),
            min_size=1,
            max_size=5,
        )
    )
    def test_what_was_written_is_read(
        self, tmp_path: Path, drawn: list[tuple[str, tuple[int, int], tuple[int, int]]]
    ) -> None:
        text = "".join(xml_object(escape(label), min(x), min(y), max(x), max(y)) for label, x, y in drawn)
        found = boxes(read_dataset(voc(tmp_path, text, ""), task="detection"), 0)
        written = [
            (box.label, box.left * WIDTH + 1, box.top * HEIGHT + 1, box.right * WIDTH, box.bottom * HEIGHT)
            for box in found
        ]
        assert [label for label, *_ in written] == [label for label, _, _ in drawn]
        places = [(min(x), min(y), max(x), max(y)) for _, x, y in drawn]
        assert np.array([edges for _, *edges in written]) == pytest.approx(np.array(places))

    def test_boxes_without_an_area_are_left_out_and_those_over_the_edge_cut(self, tmp_path: Path) -> None:
        objects = [
            xml_object("cell", 5, 5, 5, 5),
            xml_object("cell", 9, 5, 7, 8),
            xml_object("cell", 50, 5, 60, 8),
            xml_object("cell", 0, -3, 10, 99),
        ]
        dataset = read_dataset(voc(tmp_path, "".join(objects), ""), task="detection")
        assert boxes(dataset, 0) == [Box("cell", 0, 0, 0.25, 1)]

    def test_the_folders_of_voc_itself(self, tmp_path: Path) -> None:
        voc(tmp_path, *[xml_object("cell", 1, 1, 4 + n, 4) for n in range(3)])
        (tmp_path / "images").rename(tmp_path / "JPEGImages")
        (tmp_path / "annotations").rename(tmp_path / "Annotations")
        (tmp_path / "ImageSets/Main").mkdir(parents=True)
        (tmp_path / "ImageSets/Main/test.txt").write_text("1\n")
        (tmp_path / "ImageSets/Main/val.txt").write_text("2\n")
        dataset = read_dataset(str(tmp_path), task="detection")
        assert dataset.test is not None
        assert [boxes(dataset, int(position))[0].right for position in dataset.test] == [5 / WIDTH]

    def test_parts_of_objects_are_none(self, tmp_path: Path) -> None:
        part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>"
        person = xml_object("person", 1, 1, 20, 20).replace("</object>", part)
        dataset = read_dataset(voc(tmp_path, person, ""), task="detection")
        assert boxes(dataset, 0) == [Box("person", 0, 0, 0.5, 1)]

    @pytest.mark.parametrize("size", ["", SIZE.replace("40", "0"), SIZE.replace("40", "wide")])
    def test_without_a_size_the_images_own_counts(self, tmp_path: Path, size: str) -> None:
        dataset = read_dataset(
            voc(tmp_path, xml_object("cell", 1, 1, 20, 10), "", size=size), task="detection"
        )
        assert boxes(dataset, 0) == [Box("cell", 0, 0, 0.5, 0.5)]

    def test_broken_files_cost_their_images(self, tmp_path: Path) -> None:
        good = xml_object("cell", 1, 1, 4, 4)
        without_a_name = good.replace("cell", " ")
        voc(
            tmp_path,
            good,
            *[good] * 5,
            without_a_name,
            xml_object("cell", 1, 1, "x", 4),
            OBJECT.format("cell", ""),
        )
        folder = tmp_path / "annotations"
        (folder / "1.xml").unlink()
        (folder / "2.xml").write_text("<annotation>")
        (folder / "3.xml").write_bytes(b"\xff\xfe\x00")
        (folder / "4.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>')
        (folder / "5.xml").write_text(f"<annotation>{xml_object('cell', 1, 1, 'nan', 4)}</annotation>")
        draw(tmp_path / "images/0.png", size=(HEIGHT, WIDTH))
        voc_of_more = tmp_path / "images/9.png"
        draw(voc_of_more, size=(WIDTH, HEIGHT))
        (folder / "9.xml").write_text(f"<annotation>{good}</annotation>")
        dataset = read_dataset(str(tmp_path), task="detection")
        assert len(dataset) == 1
        for sentence, expected in zip(
            dataset.broken,
            [
                "annotations/1.xml is missing: add it",
                "annotations/2.xml is not well-formed XML (no element found",
                "annotations/3.xml is not well-formed XML",
                "annotations/4.xml has a DOCTYPE",
                "annotations/5.xml has an object without a <name>, or without a <bndbox> of xmin, ymin",
                "annotations/6.xml has an object without a <name>",
                "annotations/7.xml has an object without a <name>",
                "annotations/8.xml has an object without a <name>",
                "images/0.png is 20 × 40 pixels, but was labeled with 40 × 20",
            ],
            strict=True,
        ):
            assert sentence.startswith(expected)

    def test_for_classification_an_image_has_the_classes_of_its_objects(self, tmp_path: Path) -> None:
        (tmp_path / "classes.txt").write_text("white\nred\n")
        text = xml_object("red", 1, 1, 9, 9)
        dataset = read_dataset(voc(tmp_path, text, text + xml_object("white", 1, 1, 9, 9)))
        assert dataset.task == "classification"
        assert dataset.truths is None
        assert dataset.classes == ("white", "red")
        assert dataset.targets.tolist() == [[0, 1], [1, 1]]


def test_what_has_no_boxes_is_refused(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png"):
        draw(tmp_path / name)
    for source in ("digits", str(tmp_path)):
        with pytest.raises(
            DatasetError, match="for classification and face, not for detection: boxes are read from"
        ):
            read_dataset(source, task="detection")
