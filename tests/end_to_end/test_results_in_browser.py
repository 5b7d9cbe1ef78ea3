"""What Label Studio's own editor makes of a prediction: submitted as it stands, it still says the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image
from playwright.sync_api import Page, expect

from backend.demo.label_studio import LabelStudioServer
from backend.labelstudio.client import LabelStudio
from backend.labelstudio.control import Control
from backend.labelstudio.image_file import decode
from backend.labelstudio.labeling_config import read_labeling_config
from backend.labelstudio.pixels import bitmap
from backend.labelstudio.results import read_target, write_result
from backend.targets import Box, BoxTarget, ChoiceTarget, MaskTarget, Polygon, Target
from tests.conftest import make_image_project
from tests.end_to_end.running_loop import wait_for
from tests.end_to_end.test_browser import page
from tests.labelstudio.marked import TAGS, prediction

__all__ = ["page"]  # a fixture

SIZE = (300, 200)
SIDEWAYS = 6  # EXIF: turn it right to see it upright

CONFIG = "".join(
    [
        '<View><Image name="img" value="$image"/>',
        '<Rectangle name="face" toName="img"/><TextArea name="who" toName="img" perRegion="true" model_task="face"/>',
        '<Choices name="weather" toName="img"><Choice value="sun"/><Choice value="rain"/></Choices>',
        *(TAGS[tag] for tag in ("RectangleLabels", "PolygonLabels", "BrushLabels", "BitmaskLabels")),
        "</View>",
    ]
)


def answers(asked: Control) -> Target:
    """A cat on the left and a dog below on the right."""
    left, right = np.zeros(SIZE[::-1], np.uint8), np.zeros(SIZE[::-1], np.uint8)
    left[20:100, 30:120], right[120:180, 150:280] = 1, 1
    match asked.tag:
        case "RectangleLabels":
            return BoxTarget((Box("cat", 0.1, 0.1, 0.4, 0.5), Box("d", 0.5, 0.6, 0.93, 0.9)))
        case "TextArea":
            return BoxTarget((Box("Ann", 0.1, 0.1, 0.4, 0.5), Box("Bo", 0.5, 0.6, 0.93, 0.9)))
        case "Choices":
            return ChoiceTarget({"rain": 1.0}, 1, multiple=False)
        case "PolygonLabels":
            corners = ((0.1, 0.1), (0.4, 0.1), (0.4, 0.5)), ((0.5, 0.6), (0.93, 0.6), (0.7, 0.9))
            return MaskTarget((Polygon("cat", corners[0]), Polygon("d", corners[1])), *SIZE)
        case _:
            return MaskTarget((bitmap("cat", [left], *SIZE), bitmap("d", [right], *SIZE)), *SIZE)


@pytest.fixture
def project(label_studio: LabelStudioServer, local_files: Path) -> tuple[int, int]:
    """A project of one picture from a camera that was held sideways: the project's id and the task's."""
    x, y = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    upright = Image.fromarray(np.stack((x % 256, y, 0 * x + 128), axis=2).astype(np.uint8))
    project, (task,), folder = make_image_project(
        label_studio, local_files, [upright], title="One", label_config=CONFIG
    )
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = SIDEWAYS
    file = folder / "0000.png"
    upright.transpose(Image.Transpose.ROTATE_90).save(file, "JPEG", exif=exif)
    assert decode(file.read_bytes(), max_pixels=10**6).size == SIZE
    return project, task


def test_what_the_editor_submits_is_what_was_predicted(
    page: Page, label_studio: LabelStudioServer, client: LabelStudio, project: tuple[int, int]
) -> None:
    controls = read_labeling_config(CONFIG).controls
    assert len(controls) == 6
    result = [
        region for asked in controls for region in write_result(asked, prediction(answers(asked), size=SIZE))
    ]
    project_id, task = project
    sent = {"task": task, "result": result, "score": 0.1, "model_version": "v1"}
    assert client.import_predictions(project_id, [sent]) == 1
    client.set_model_version(project_id, "v1")

    log_in(page, label_studio)
    page.goto(f"{label_studio.url}/projects/{project_id}/data", wait_until="domcontentloaded")
    page.get_by_role("button", name="Label All Tasks").click()
    expect(page.get_by_text("0.50")).to_have_count(10)  # the confidence of each region
    if "SCREENSHOT" in os.environ:
        page.wait_for_timeout(3000)  # masks are drawn after all else
        page.screenshot(path=os.environ["SCREENSHOT"])
    page.get_by_test_id("bottombar-submit-button").click()
    annotations = wait_for("the annotation", lambda: next(iter(client.tasks(project_id))).annotations or None)
    for asked in controls:
        assert simplified(read_target(annotations, asked)) == simplified(answers(asked))
    regions: list[dict[str, Any]] = [each for each in annotations[0]["result"] if each["type"] != "choices"]
    assert {(each["original_width"], each["original_height"]) for each in regions} == {SIZE}


def log_in(page: Page, server: LabelStudioServer) -> None:
    page.goto(f"{server.url}/user/login/")
    if page.locator("input[name=email]").count():
        page.fill("input[name=email]", server.email)
        page.fill("input[name=password]", server.password)
        page.click("button[type=submit]")
        page.wait_for_url(lambda url: "/user/login" not in url, wait_until="commit")


def simplified(target: Target | None) -> Target | None:
    """The editor computes places once more, and so may change their last digits."""
    match target:
        case BoxTarget():
            rounded = [
                Box(box.label, *(round(edge, 6) for edge in (box.left, box.top, box.right, box.bottom)))
                for box in target.boxes
            ]
            return BoxTarget(tuple(rounded))
        case MaskTarget():
            regions = [
                Polygon(each.label, tuple((round(x, 6), round(y, 6)) for x, y in each.points))
                if isinstance(each, Polygon)
                else each
                for each in target.regions
            ]
            return MaskTarget(tuple(regions), target.width, target.height)
    return target
