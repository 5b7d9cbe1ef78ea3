"""A Label Studio export, written by hand; one by Label Studio itself is in test_datasets_on_label_studio.py."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from backend.simulation.datasets import DatasetError, read_dataset
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
