"""Data sets from a real Label Studio: a live project, and what Label Studio exports."""

import json
import uuid
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from label_studio_sdk.converter.brush import mask2rle
from PIL import Image
from pycocotools import mask as coco_mask

from backend.demo.annotator import Annotator
from backend.demo.label_studio import LabelStudioServer
from backend.labelstudio.client import (
    AccessDenied,
    LabelStudio,
    LabelStudioUnavailable,
    ProjectNotFound,
)
from backend.labelstudio.labeling_config import UnsupportedConfig
from backend.labelstudio.media import MediaFetcher
from backend.simulation.dataset import Dataset
from backend.simulation.datasets import DatasetError, read_dataset
from backend.simulation.datasets.label_studio_tasks import TaskImage
from backend.targets import Box, BoxTarget
from tests.conftest import DigitsProject, make_digits_project

TASKS = 8
SEVERAL = """<View><Image name="image" value="$image"/><Choices name="digit" toName="image" choice="multiple">
    <Choice value="even"/><Choice value="round"/></Choices></View>"""
PARTS = """<View><Image name="image" value="$image"/>
    <RectangleLabels name="boxes" toName="image"><Label value="digit"/></RectangleLabels>
    <BrushLabels name="parts" toName="image"><Label value="ink"/><Label value="paper"/></BrushLabels></View>"""


@pytest.fixture(autouse=True)
def settings(label_studio: LabelStudioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABEL_STUDIO_URL", label_studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.api_key)
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "model"))


@pytest.fixture
def http(label_studio: LabelStudioServer) -> httpx.Client:
    return _http(label_studio)


def _http(label_studio: LabelStudioServer) -> httpx.Client:
    headers = {"Authorization": LabelStudio(label_studio.url, label_studio.api_key).authorization()}
    return httpx.Client(base_url=label_studio.url, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def labeled_project(label_studio: LabelStudioServer, local_files: Path) -> DigitsProject:
    """Digits of which the first is skipped, the second nobody's, and two annotators differ on the third."""
    project = make_digits_project(label_studio, local_files, TASKS)
    http = _http(label_studio)
    annotator = Annotator(label_studio.url, label_studio.api_key, project.id)
    for position, (task_id, digit) in enumerate(project.digits.items()):
        image = f"/data/local-files/?d={project.images.name}/{position:04}.png"
        data = {"image": image, "weather": ("sun", "rain")[position % 2]}
        changed = {"data": data, "meta": {"shift": position // 5}}
        http.patch(f"/api/tasks/{task_id}/", json=changed).raise_for_status()
        if position == 0:
            annotator.skip(task_id)
        elif position > 1:
            annotator.choose(task_id, "digit", "image", [str(digit)])
    second = label_studio.add_user(f"{uuid.uuid4().hex}@example.com", uuid.uuid4().hex)
    Annotator(label_studio.url, second, project.id).choose(sorted(project.digits)[2], "digit", "image", ["9"])
    return project


def exported(http: httpx.Client, project_id: int, folder: Path) -> str:
    answer = http.get(f"/api/projects/{project_id}/export", params={"exportType": "JSON"}).raise_for_status()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "export.json").write_bytes(answer.content)
    return str(folder / "export.json")


def check(dataset: Dataset, project: DigitsProject) -> None:
    """The labeled tasks, as in `labeled_project`, in the order of ids."""
    digits = list(project.digits.values())
    assert len(dataset) == TASKS - 2
    assert not dataset.multi_label
    assert dataset.broken == ()
    column = {name: number for number, name in enumerate(dataset.classes)}
    first = np.zeros(len(dataset.classes))
    first[[column[str(digits[2])], column["9"]]] = 0.5
    assert (dataset.targets[0] == first).all()
    assert [dataset.classes[row.argmax()] for row in dataset.targets[1:]] == [str(d) for d in digits[3:]]
    assert dataset.groups["weather"].tolist() == ["sun", "rain"] * 3
    for position in (0, 5):
        with Image.open(project.images / f"{position + 2:04}.png") as drawn:
            assert np.array_equal(np.asarray(dataset.load(position)), np.asarray(drawn.convert("RGB")))


def test_a_live_project(labeled_project: DigitsProject):
    dataset = read_dataset(f"project:{labeled_project.id}")
    check(dataset, labeled_project)
    assert dataset.classes == tuple(sorted(dataset.classes))
    assert dataset.groups["shift"].tolist() == ["0"] * 3 + ["1"] * 3
    assert read_dataset(f"project:{labeled_project.id}").fingerprint == dataset.fingerprint


def test_its_export_with_the_images_beside(
    labeled_project: DigitsProject, http: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "")
    path = exported(http, labeled_project.id, tmp_path / "set")
    (tmp_path / "set/images").symlink_to(labeled_project.images)
    dataset = read_dataset(path)
    check(dataset, labeled_project)
    assert dataset.groups["shift"].tolist() == ["0"] * 3 + ["1"] * 3


def test_its_export_alone(labeled_project: DigitsProject, http: httpx.Client, tmp_path: Path):
    """The images come from Label Studio."""
    check(read_dataset(exported(http, labeled_project.id, tmp_path / "set")), labeled_project)


def test_several_choices(
    label_studio: LabelStudioServer, http: httpx.Client, make_project: Callable[..., Any], tmp_path: Path
):
    project = make_project(4, label_config=SEVERAL)
    annotator = Annotator(label_studio.url, label_studio.api_key, project.id)
    first, second, third, _ = project.digits
    annotator.choose(first, "digit", "image", ["even", "round"])
    annotator.choose(second, "digit", "image", ["round"])
    http.post(f"/api/tasks/{third}/annotations/", json={"result": []}).raise_for_status()
    for source in (f"project:{project.id}", exported(http, project.id, tmp_path / "set")):
        dataset = read_dataset(source)
        assert dataset.classes == ("even", "round")
        assert dataset.multi_label
        assert dataset.targets.tolist() == [[1, 1], [0, 1], [0, 0]]


def test_boxes_and_regions(
    label_studio: LabelStudioServer, http: httpx.Client, make_project: Callable[..., Any], tmp_path: Path
):
    """The first control of the task counts, of several on one image."""
    project = make_project(2, label_config=PARTS)
    first, second = project.digits
    with Image.open(project.images / "0000.png") as drawn:
        width, height = drawn.size
    mask = np.zeros((height, width), np.uint8)
    mask[height // 2 :, : width // 4] = 255
    size = {"to_name": "image", "original_width": width, "original_height": height, "image_rotation": 0}
    box = {"x": 25, "y": 50, "width": 50, "height": 25, "rotation": 0, "rectanglelabels": ["digit"]}
    painted = {"format": "rle", "rle": mask2rle(mask), "brushlabels": ["ink"]}
    result = [
        {**size, "from_name": "boxes", "type": "rectanglelabels", "value": box},
        {**size, "from_name": "parts", "type": "brushlabels", "value": painted},
    ]
    for task_id, regions in ((first, result), (second, [])):
        http.post(f"/api/tasks/{task_id}/annotations/", json={"result": regions}).raise_for_status()
    for source in (f"project:{project.id}", exported(http, project.id, tmp_path / "set")):
        boxes, regions = (read_dataset(source, task=task) for task in ("detection", "segmentation"))
        assert (boxes.classes, regions.classes) == (("digit",), ("ink",))
        assert boxes.targets.tolist() == regions.targets.tolist() == [[1], [0]]
        assert boxes.truths(0) == BoxTarget((Box("digit", 0.25, 0.5, 0.75, 0.75),))
        assert boxes.truths(1) == BoxTarget(())
        [region] = regions.truths(0).regions
        encoded = {"size": [region.height, region.width], "counts": region.counts.encode()}
        assert np.array_equal(coco_mask.decode(encoded) > 0, mask > 0)
        assert regions.truths(1).regions == ()


def test_an_uploaded_image(
    label_studio: LabelStudioServer,
    http: httpx.Client,
    make_project: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """Found beside the export by the name that it had before it was uploaded."""
    project = make_project(0)
    annotator = Annotator(label_studio.url, label_studio.api_key, project.id)
    (tmp_path / "set").mkdir()
    for colour in ("red", "blue"):
        file = BytesIO()
        Image.new("RGB", (30, 40), colour).save(file, "PNG")
        (tmp_path / f"set/{colour}.png").write_bytes(file.getvalue())
        files = {"file": (f"{colour}.png", file.getvalue(), "image/png")}
        http.post(f"/api/projects/{project.id}/import", files=files).raise_for_status()
    for number, task_id in enumerate(
        sorted(LabelStudio(label_studio.url, label_studio.api_key).task_ids(project.id))
    ):
        annotator.choose(task_id, "digit", "image", [str(number)])
    path = exported(http, project.id, tmp_path / "set")
    assert all(
        task["data"]["image"].startswith("/data/upload/") for task in json.loads(Path(path).read_text())
    )
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "")
    beside = read_dataset(path)
    assert [beside.load(position).getpixel((0, 0)) for position in (0, 1)] == [(255, 0, 0), (0, 0, 255)]


class TestWhatFails:
    def test_a_project_without_labels(self, make_project: Callable[..., Any]):
        with pytest.raises(DatasetError, match="is labeled with 'digit' yet: label some"):
            read_dataset(f"project:{make_project(2).id}")

    def test_a_project_that_is_not_there(self):
        with pytest.raises(ProjectNotFound):
            read_dataset("project:987654")

    def test_a_project_that_asks_for_something_else(self, make_project: Callable[..., Any]):
        config = '<View><Image name="image" value="$image"/><Rating name="r" toName="image"/></View>'
        with pytest.raises(UnsupportedConfig, match="'Rating' 'r' cannot be learned"):
            read_dataset(f"project:{make_project(1, label_config=config).id}")

    def test_without_a_key(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", "")
        with pytest.raises(AccessDenied, match="There is no API key"):
            read_dataset("project:1")

    def test_an_image_that_is_gone(self, labeled_project: DigitsProject):
        dataset = read_dataset(f"project:{labeled_project.id}")
        (labeled_project.images / "0003.png").rename(labeled_project.images / "away.png")
        with pytest.raises(DatasetError, match=r"0003\.png cannot be had"):
            dataset.load(1)
        (labeled_project.images / "away.png").rename(labeled_project.images / "0003.png")

    def test_label_studio_that_does_not_answer_is_no_images_fault(self, tmp_path: Path):
        media = MediaFetcher("http://127.0.0.1:9", lambda: "a", tmp_path)
        with pytest.raises(LabelStudioUnavailable, match="does not answer"):
            TaskImage(media, "/data/upload/1/a.png", 1).load()
        media.close()
