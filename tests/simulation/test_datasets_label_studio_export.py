"""A Label Studio export, written by hand; one by Label Studio itself is in test_datasets_on_label_studio.py."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_studio_sdk.converter.brush import mask2rle
from pycocotools import mask as coco_mask

from backend.simulation.dataset import Dataset
from backend.simulation.datasets import DatasetError, read_dataset
from backend.targets import Bitmap, Box, BoxTarget, MaskTarget, Polygon
from tests.simulation.drawn import draw

CONFIG = """<View><Image name="img" value="$photo"/><Choices name="what" toName="img" choice="multiple">
    <Choice value="dog"/><Choice value="cat"/><Choice value="cow"/></Choices></View>"""


@pytest.fixture(autouse=True)
def no_label_studio(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "")


def annotation(*choices: str, user: int = 1, **changes: Any) -> dict[str, Any]:
    region = {"from_name": "what", "to_name": "img", "type": "choices", "value": {"choices": list(choices)}}
    return {"result": [region] if choices else [], "completed_by": user, "was_cancelled": False} | changes


def task(number: int, image: str, *annotations: Mapping[str, Any], **data: Any) -> dict[str, Any]:
    return {"id": number, "data": {"photo": image, **data}, "annotations": list(annotations), "meta": {}}


def region(kind: str, value: Mapping[str, Any], label: str) -> dict[str, Any]:
    """A region on an image of 40 × 20 pixels."""
    return {
        "from_name": "what",
        "to_name": "img",
        "type": kind,
        "value": {**value, kind: [label]},
        "original_width": 40,
        "original_height": 20,
        "image_rotation": 0,
    }


def rectangle(label: str, x: float, y: float, width: float, height: float) -> dict[str, Any]:
    return region("rectanglelabels", {"x": x, "y": y, "width": width, "height": height, "rotation": 0}, label)


def brush(label: str, mask: np.ndarray) -> dict[str, Any]:
    """As Label Studio's own converter writes it."""
    return region("brushlabels", {"format": "rle", "rle": mask2rle(mask.astype(np.uint8) * 255)}, label)


def polygon(label: str, *points: tuple[float, float]) -> dict[str, Any]:
    return region("polygonlabels", {"points": [list(point) for point in points], "closed": True}, label)


def answer(*regions: Mapping[str, Any], user: int = 1) -> dict[str, Any]:
    return {"result": list(regions), "completed_by": user, "was_cancelled": False}


def config(tag: str, *labels: str, kind: str = "Label") -> str:
    inside = "".join(f'<{kind} value="{label}"/>' for label in labels)
    return f'<View><Image name="img" value="$photo"/><{tag} name="what" toName="img">{inside}</{tag}></View>'


def export(folder: Path, *tasks: Mapping[str, Any]) -> str:
    (folder / "export.json").write_text(json.dumps(tasks))
    return str(folder / "export.json")


def test_votes_metadata_and_what_tells_nothing(tmp_path: Path):
    for name in "abcdef":
        draw(tmp_path / f"images/{name}.png", ord(name))
    dataset = read_dataset(
        export(
            tmp_path,
            task(1, "a.png", annotation("cat"), weather="sun", note="one"),
            task(2, "b.png", annotation("dog"), annotation("cat", user=2), weather="rain", note="two"),
            task(3, "c.png", annotation(was_cancelled=True), weather="rain"),
            task(4, "d.png", weather="rain"),
            task(5, "e.png", annotation("dog"), annotation("cat", user=2, ground_truth=True), weather="sun"),
            task(6, "f.png", annotation(), weather="sun"),
        )
    )
    assert dataset.classes == ("cat", "dog")
    assert not dataset.multi_label
    assert dataset.targets.tolist() == [[1, 0], [0.5, 0.5], [1, 0]]
    assert [dataset.load(position).getpixel((0, 0))[0] for position in range(3)] == [97, 98, 101]
    assert set(dataset.groups) == {"weather"}
    assert dataset.groups["weather"].tolist() == ["sun", "rain", "sun"]
    assert dataset.broken == ()


def test_several_choices_at_once(tmp_path: Path):
    for name in "abc":
        draw(tmp_path / f"{name}.png")
    tasks = [
        task(1, "a.png", annotation("cat", "dog")),
        task(2, "b.png", annotation("dog"), annotation("cat", user=2)),
        task(3, "c.png", annotation()),
    ]
    dataset = read_dataset(export(tmp_path, *tasks))
    assert dataset.multi_label
    assert dataset.targets.tolist() == [[1, 1], [0.5, 0.5], [0, 0]]


def test_the_labeling_config_beside_it_counts(tmp_path: Path):
    """Multiple choice, although nobody chose several; its order of classes; its key of the image."""
    for name in "ab":
        draw(tmp_path / f"{name}.png")
    (tmp_path / "config.xml").write_text(CONFIG)
    tasks = [
        task(1, "a.png", annotation("cat"), thumbnail="b.png"),
        task(2, "b.png", annotation("dog"), thumbnail="a.png"),
    ]
    dataset = read_dataset(export(tmp_path, *tasks))
    assert dataset.classes == ("dog", "cat")
    assert dataset.multi_label


@pytest.mark.parametrize(
    "address",
    [
        "/data/upload/3/0a1b2c3d-heron.png",
        "/data/upload/3/heron.png",
        "/data/local-files/?d=birds/heron.png",
        "/data/local-files/?d=birds%2Fheron.png",
        "birds/heron.png",
        "heron.png",
    ],
)
@pytest.mark.parametrize(
    "place", ["heron.png", "images/heron.png", "birds/heron.png", "images/birds/heron.png"]
)
def test_where_an_image_may_be(tmp_path: Path, address: str, place: str):
    draw(tmp_path / place, 55)
    draw(tmp_path / "b.png")
    tasks = [task(1, address, annotation("bird")), task(2, "b.png", annotation("cat"))]
    if "/birds" in f"/{place}" and "birds" not in address:
        with pytest.raises(DatasetError, match="is not beside"):
            read_dataset(export(tmp_path, *tasks))
        return
    dataset = read_dataset(export(tmp_path, *tasks))
    assert dataset.load(0).getpixel((0, 0)) == (55, 55, 55)


def test_images_that_cannot_be_had(tmp_path: Path):
    for name in "ab":
        draw(tmp_path / f"{name}.png")
    draw(tmp_path.parent / "outside.png")
    strange = [
        "/data/upload/3/0a1b2c3d-gone.png",
        "/data/local-files/?d=../outside.png",
        "https://example.com/a.png",
        "s3://bucket/a.png",
        "data:image/png;base64,AAAA",
        "//[/a",
        "\0",
    ]
    tasks = [task(n, address, annotation("cat")) for n, address in enumerate(strange, start=10)]
    tasks += [task(1, "a.png", annotation("cat")), task(2, "b.png", annotation("dog"))]
    no_image = task(3, "a.png", annotation("cat"))
    del no_image["data"]["photo"]
    dataset = read_dataset(export(tmp_path, *tasks, no_image))
    assert len(dataset) == 2
    assert len(dataset.broken) == len(strange) + 1
    assert dataset.broken[0].startswith("Task 10: its image /data/upload/3/0a1b2c3d-gone.png is not beside")
    assert "set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY to fetch it" in dataset.broken[2]
    assert dataset.broken[-1] == "Task 3 has no image: its data lacks 'photo'."


def test_two_uploads_that_may_be_the_same_file(tmp_path: Path):
    draw(tmp_path / "images/1.png")
    tasks = [
        task(1, "/data/upload/3/0a1b2c3d-1.png", annotation("cat")),
        task(2, "/data/upload/3/99999999-1.png", annotation("dog")),
    ]
    with pytest.raises(DatasetError, match=r"images/1\.png may be \S*0a1b2c3d-1\.png or"):
        read_dataset(export(tmp_path, *tasks))


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([task(1, "a.png")], "no choice for a whole image; it has: no annotation"),
        (
            [task(1, "a.png", {"result": [{"type": "rectanglelabels", "value": {}}]})],
            "it has: rectanglelabels",
        ),
        (
            [
                task(
                    1,
                    "a.png",
                    {
                        "result": [
                            {
                                "type": "choices",
                                "from_name": "what",
                                "to_name": "img",
                                "value": {"x": 1, "y": 1, "choices": ["cat"]},
                            }
                        ]
                    },
                )
            ],
            "no choice for a whole image; it has: choices",
        ),
        ([task(1, "a.png", {"result": None}), task(2, "a.png", 3)], "no choice for a whole image"),
        ([task(1, "no address", annotation("cat"))], "no task has an image's address"),
        ([task(1, "a.png", annotation("cat"))], "of one class, 'cat'"),
        (
            [
                task(1, "a.png", annotation("cat"), left="a.png"),
                task(2, "a.png", annotation("dog"), left="a.png"),
            ],
            r"several images \('photo', 'left'\): save the labeling config as config\.xml",
        ),
    ],
)
def test_content_that_does_not_fit(tmp_path: Path, tasks: list[dict[str, Any]], message: str):
    draw(tmp_path / "a.png")
    with pytest.raises(DatasetError, match=message):
        read_dataset(export(tmp_path, *tasks))


def test_a_labeling_config_that_does_not_fit(tmp_path: Path):
    (tmp_path / "config.xml").write_text("<View/>")
    with pytest.raises(DatasetError, match=r"config\.xml: The labeling config has no image"):
        read_dataset(export(tmp_path, task(1, "a.png", annotation("cat"))))


def truths(dataset: Dataset) -> list[BoxTarget | MaskTarget]:
    assert dataset.truths is not None
    return [dataset.truths(position) for position in range(len(dataset))]


@pytest.mark.parametrize("labeling_config", [None, config("RectangleLabels", "dog", "cat", "cow")])
def test_boxes(tmp_path: Path, labeling_config: str | None):
    """Of three annotators, the boxes that agree most; a skipped task is left out, an empty one is not."""
    for name in "abcd":
        draw(tmp_path / f"{name}.png", size=(40, 20))
    if labeling_config:
        (tmp_path / "config.xml").write_text(labeling_config)
    cat, dog = rectangle("cat", 10, 10, 20, 30), rectangle("dog", 50, 50, 25, 50)
    near = rectangle("cat", 10, 10, 22, 30)
    tasks = [
        task(1, "a.png", answer(cat, dog), weather="sun"),
        task(2, "b.png", answer(dog), answer(cat, user=2), answer(near, user=3), weather="sun"),
        task(3, "c.png", answer(), weather="rain"),
        task(4, "d.png", annotation(was_cancelled=True), weather="rain"),
    ]
    dataset = read_dataset(export(tmp_path, *tasks), task="detection")
    assert dataset.task == "detection"
    assert dataset.multi_label
    first, second, third = truths(dataset)
    assert first == BoxTarget(
        (Box("cat", 0.1, 0.1, pytest.approx(0.3), 0.4), Box("dog", 0.5, 0.5, 0.75, 1.0))
    )
    assert isinstance(second, BoxTarget)
    assert [box.label for box in second.boxes] == ["cat"]
    assert second.annotators == 3
    assert third == BoxTarget(())
    assert dataset.classes == (("dog", "cat") if labeling_config else ("cat", "dog"))
    cats = dataset.classes.index("cat")
    assert dataset.targets[:, cats].tolist() == [1, 1, 0]
    assert dataset.targets[:, 1 - cats].tolist() == [1, 0, 0]
    assert dataset.groups["weather"].tolist() == ["sun", "sun", "rain"]


@pytest.mark.parametrize("labeling_config", [None, config("BrushLabels", "road", "car")])
def test_brushes(tmp_path: Path, labeling_config: str | None):
    for name in "ab":
        draw(tmp_path / f"{name}.png", size=(40, 20))
    if labeling_config:
        (tmp_path / "config.xml").write_text(labeling_config)
    road, car = np.zeros((2, 20, 40), np.bool_)
    road[10:] = True
    car[12:15, 3:9] = True
    tasks = [task(1, "a.png", answer(brush("road", road), brush("car", car))), task(2, "b.png", answer())]
    dataset = read_dataset(export(tmp_path, *tasks), task="segmentation")
    assert set(dataset.classes) == {"road", "car"}
    assert dataset.targets.tolist() == [[1, 1], [0, 0]]
    first, second = truths(dataset)
    assert isinstance(first, MaskTarget)
    assert (first.width, first.height) == (40, 20)
    assert [part.label for part in first.regions] == ["road", "car"]
    for part, drawn in zip(first.regions, (road, car), strict=True):
        assert isinstance(part, Bitmap)
        decoded = coco_mask.decode({"size": [part.height, part.width], "counts": part.counts.encode()})
        assert np.array_equal(decoded.astype(bool), drawn)
    assert isinstance(second, MaskTarget)
    assert second.regions == ()


def test_polygons(tmp_path: Path):
    for name in "ab":
        draw(tmp_path / f"{name}.png", size=(40, 20))
    tasks = [
        task(1, "a.png", answer(polygon("car", (0, 0), (50, 0), (50, 100)))),
        task(2, "b.png", answer(polygon("road", (0, 0), (100, 0), (100, 100), (0, 100)))),
    ]
    dataset = read_dataset(export(tmp_path, *tasks), task="segmentation")
    assert dataset.classes == ("car", "road")
    first = truths(dataset)[0]
    assert isinstance(first, MaskTarget)
    assert first.regions == (Polygon("car", ((0, 0), (0.5, 0), (0.5, 1))),)


def test_people_are_choices(tmp_path: Path):
    for name in "abc":
        draw(tmp_path / f"{name}.png")
    tasks = [
        task(n, f"{name}.png", annotation(who))
        for n, (name, who) in enumerate(zip("abc", ("eve", "bob", "eve"), strict=False))
    ]
    for labeling_config in (
        None,
        config("Choices", "eve", "bob", kind="Choice"),
        config("Choices", "eve", "bob", kind="Choice").replace("<View>", '<View model_task="face">'),
    ):
        if labeling_config:
            (tmp_path / "config.xml").write_text(labeling_config)
        dataset = read_dataset(export(tmp_path, *tasks), task="face")
        assert dataset.task == "face"
        assert not dataset.multi_label
        assert dataset.truths is None
        eves = dataset.targets[:, dataset.classes.index("eve")]
        assert (dataset.targets.sum(axis=1) == 1).all()
        assert eves.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    "labeling_config", [None, config("TextArea").replace("<View>", '<View model_task="face">')]
)
def test_people_are_written_names(tmp_path: Path, labeling_config: str | None):
    for name in "abc":
        draw(tmp_path / f"{name}.png")
    if labeling_config:
        (tmp_path / "config.xml").write_text(labeling_config)
    tasks = [
        task(
            n,
            f"{name}.png",
            answer({"from_name": "what", "to_name": "img", "type": "textarea", "value": {"text": [who]}}),
        )
        for n, (name, who) in enumerate(zip("abc", ("eve", "bob", "eve"), strict=True))
    ]
    dataset = read_dataset(export(tmp_path, *tasks), task="face")
    assert dataset.classes == ("bob", "eve")
    assert dataset.targets.tolist() == [[0, 1], [1, 0], [0, 1]]


def test_people_in_boxes_are_refused(tmp_path: Path):
    """An image may have several of them."""
    draw(tmp_path / "a.png")
    people = config("Choices", "eve", "bob", kind="Choice").replace(
        'name="what"', 'name="who" perRegion="true"'
    )
    boxes = '<RectangleLabels name="what" toName="img"><Label value="face"/></RectangleLabels></View>'
    (tmp_path / "config.xml").write_text(
        people.replace("<View>", '<View model_task="face">').replace("</View>", boxes)
    )
    with pytest.raises(DatasetError, match="'who' names the people in boxes"):
        read_dataset(export(tmp_path, task(1, "a.png", answer(rectangle("face", 1, 1, 9, 9)))), task="face")


def test_a_task_that_nothing_is_asked_for(tmp_path: Path):
    draw(tmp_path / "a.png")
    (tmp_path / "config.xml").write_text(config("RectangleLabels", "dog"))
    path = export(tmp_path, task(1, "a.png", answer(rectangle("dog", 1, 1, 9, 9))))
    for asked in ("classification", "segmentation", "face"):
        with pytest.raises(DatasetError, match=f"nothing that is learned by {asked}, but for detection"):
            read_dataset(path, task=asked)
    (tmp_path / "config.xml").unlink()
    with pytest.raises(DatasetError, match="has no region with a label; it has: rectanglelabels"):
        read_dataset(path, task="segmentation")
