"""Predictions of every tag, imported into a real Label Studio, and read again as annotations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from backend.demo.label_studio import LabelStudioServer
from backend.labelstudio.client import LabelStudio
from backend.labelstudio.control import Control
from backend.labelstudio.labeling_config import read_labeling_config
from backend.labelstudio.pixels import bitmap
from backend.labelstudio.results import read_target, write_result
from backend.targets import Box, BoxTarget, ChoiceTarget, MaskTarget, Polygon, Target
from tests.labelstudio.marked import TAGS, prediction

PER_REGION = '<TextArea name="name" toName="img" perRegion="true" model_task="face"/>'
CHOICES = '<Choices name="weather" toName="img" choice="multiple"><Choice value="sun"/><Choice value="rain"/></Choices>'
TEXT = '<TextArea name="owner" toName="img" model_task="face"/>'
REGIONS = [TAGS[tag] for tag in ("RectangleLabels", "PolygonLabels", "BrushLabels", "BitmaskLabels")]
CONFIG = (
    '<View><Image name="img" value="$image"/>'
    + "".join([CHOICES, TAGS["Taxonomy"].replace("PER", ""), TEXT, *REGIONS, PER_REGION])
    + "</View>"
)
SIZE = (32, 32)


def answer(asked: Control) -> Target:
    """Something that a learner might answer, and that can be read again exactly."""
    mask = (np.random.default_rng(0).random((32, 32)) < 0.5).astype(np.uint8)
    match asked.name:
        case "weather":
            return ChoiceTarget({"rain": 1.0, "sun": 1.0}, 1, multiple=True)
        case "who":
            return ChoiceTarget({r"A \/ B / Bo": 1.0}, 1, multiple=False)
        case "owner":
            return ChoiceTarget({"李 / Ann": 1.0}, 1, multiple=False)
        case "box":
            return BoxTarget((Box("cat", 0, 0, 1, 1), Box("d", 0.25, 0.5, 0.375, 0.625)))
        case "name":
            return BoxTarget((Box("Ann", 0.25, 0.5, 0.375, 0.625), Box("Bo", 0.5, 0.5, 1, 1)))
        case "polygon":
            return MaskTarget((Polygon("d", ((0, 0), (1, 0.25), (0.5, 1))),), *SIZE)
        case _:
            return MaskTarget((bitmap("cat", [mask], *SIZE), bitmap("d", [1 - mask], *SIZE)), *SIZE)


@pytest.fixture
def post(label_studio: LabelStudioServer, client: LabelStudio) -> Callable[..., Any]:
    """Posts JSON to Label Studio."""

    def send(path: str, content: Any) -> Any:
        headers = {"Authorization": f"Bearer {client.access_token()}"}
        return (
            httpx.post(f"{label_studio.url}/{path}", json=content, headers=headers).raise_for_status().json()
        )

    return send


def test_predictions_of_every_tag_are_kept_and_read_again(
    client: LabelStudio, post: Callable[..., Any], make_project: Callable[..., Any]
):
    config = read_labeling_config(CONFIG)
    assert len(config.controls) == 8 and not config.left_out
    project = make_project(len(config.controls) + 1, label_config=CONFIG)
    *tasks, spare = sorted(project.digits)
    results = {
        task: write_result(asked, prediction(answer(asked), size=SIZE))
        for task, asked in zip(tasks, config.controls, strict=True)
    }
    predictions = [
        {"task": task, "result": result, "score": 0.1, "model_version": "v1"}
        for task, result in results.items()
    ]
    assert client.import_predictions(project.id, predictions) == len(tasks)
    # it would have dropped one that does not fit
    (result, *_) = results[tasks[0]]
    wrong = result | {"value": {"choices": ["snow"]}}
    assert client.import_predictions(project.id, [predictions[0] | {"task": spare, "result": [wrong]}]) == 0

    for task, result in results.items():
        post(f"api/tasks/{task}/annotations/", {"result": result})
    labeled = {task.id: task.annotations for task in client.tasks(project.id)}
    for task, asked in zip(tasks, config.controls, strict=True):
        assert read_target(labeled[task], asked) == answer(asked)
