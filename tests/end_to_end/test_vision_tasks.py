"""The main job for regions and faces: connect, cold start, label in queue order, retrain, flip, pre-annotate."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from label_studio_sdk.converter import brush
from PIL import Image
from playwright.sync_api import Page

from backend.demo.label_studio import LabelStudioServer
from tests.conftest import make_image_project
from tests.end_to_end import scenes
from tests.end_to_end.command import quick_command
from tests.end_to_end.running_loop import RunningLoop, learned
from tests.end_to_end.scenes_project import (
    LABELS,
    ScenesProject,
    labels,
    see_next_task,
    stored_predictions,
    view,
)
from tests.end_to_end.test_browser import logged_in, page

__all__ = ["logged_in", "page"]  # fixtures

REGIONS = f'<BrushLabels name="regions" toName="image">{labels(scenes.DIGITS)}</BrushLabels>'


@pytest.mark.timeout(600)
def test_regions(
    loop: RunningLoop, make_scenes: Callable[..., ScenesProject], http: httpx.Client, logged_in: Page
) -> None:
    project = make_scenes(view(REGIONS), lambda things: scenes.brush_result(things, "regions"))
    facts = project.run_until_trained()["regions"]
    assert facts["measured"]["metric"] == "mean intersection over union"
    predictions = stored_predictions(loop, http, project.id)
    common = together = 0
    for task_id, result in predictions.items():
        truth = np.zeros((scenes.HEIGHT, scenes.WIDTH), bool)
        for thing in project.things[task_id]:
            truth |= thing.mask
        painted = np.zeros_like(truth)
        for region in result:
            assert (region["original_width"], region["original_height"]) == (scenes.WIDTH, scenes.HEIGHT)
            rgba = brush.decode_rle(region["value"]["rle"]).reshape(scenes.HEIGHT, scenes.WIDTH, 4)
            painted |= rgba[:, :, 3] > 0
        common += int((truth & painted).sum())
        together += int((truth | painted).sum())
    assert common / together > 0.5
    see_next_task(logged_in, loop, project.id, predictions)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("tag", ["Choices", "TextArea"])
def test_faces(
    loop: RunningLoop,
    label_studio: LabelStudioServer,
    local_files: Path,
    http: httpx.Client,
    tmp_path: Path,
    tag: str,
) -> None:
    people = [(person, number) for number in range(14) for person in range(len(scenes.PEOPLE))]
    inside = "".join(f'<Choice value="{name}"/>' for name in scenes.PEOPLE) if tag == "Choices" else ""
    config = view(f'<{tag} name="who" toName="image" model_task="face">{inside}</{tag}>')
    project_id, ids, _ = make_image_project(
        label_studio, local_files, [scenes.face(*each) for each in people], title="Faces", label_config=config
    )
    truth = {task_id: scenes.PEOPLE[person] for task_id, (person, _) in zip(ids, people, strict=True)}
    loop.connect(project_id)
    loop.wait_for_round(project_id, 0)
    annotator = loop.annotator(project_id)
    kind, key = ("choices", "choices") if tag == "Choices" else ("textarea", "text")
    for task_id in loop.queue(project_id)[:LABELS]:
        asked = annotator.next_task()
        assert asked is not None and asked.id == task_id
        value = {key: [truth[task_id]]}
        annotator.answer(task_id, [{"from_name": "who", "to_name": "image", "type": kind, "value": value}])
    done = loop.wait_for_round(project_id, 1)
    assert learned(done)["trained"]
    assert learned(done)["measured"]["metric"] == "rank-1 identification"
    predictions = stored_predictions(loop, http, project_id)
    named = {task_id: result[0]["value"][key][0] for task_id, result in predictions.items() if result}
    assert len(named) > len(predictions) / 2
    assert np.mean([truth[task_id] == name for task_id, name in named.items()]) > 0.8

    told = quick_command(loop, "faces", "--project", str(project_id), "--out", str(tmp_path / "report"))
    assert told.code == 0, told
    assert Image.open(tmp_path / "report" / "faces.png").size[0] > 600
    found = json.loads((tmp_path / "report" / "faces.json").read_text())
    assert all(set(pair["people"]) <= set(scenes.PEOPLE) for pair in found["pairs"])
    assert len(found["pairs"]) == 3


@pytest.mark.timeout(600)
def test_several_faces_in_an_image(
    loop: RunningLoop, label_studio: LabelStudioServer, local_files: Path, http: httpx.Client
) -> None:
    config = view(
        '<RectangleLabels name="faces" toName="image"><Label value="Face"/><Label value="Mask"/></RectangleLabels>',
        '<TextArea name="who" toName="image" perRegion="true" model_task="face"/>',
    )
    groups = [scenes.group(number) for number in range(50)]
    project_id, ids, _ = make_image_project(
        label_studio, local_files, [image for image, _ in groups], title="Groups", label_config=config
    )
    people = {task_id: who for task_id, (_, who) in zip(ids, groups, strict=True)}
    loop.connect(project_id)
    loop.wait_for_round(project_id, 0)
    annotator = loop.annotator(project_id)
    for task_id in loop.queue(project_id)[:LABELS]:
        annotator.answer(task_id, scenes.group_result(people[task_id]))
    controls = loop.wait_for_round(project_id, 1).facts["controls"]
    assert {name: facts["task"] for name, facts in controls.items()} == {"faces": "detection", "who": "face"}
    assert all(facts["trained"] for facts in controls.values())
    right = []
    for task_id, result in stored_predictions(loop, http, project_id).items():
        boxes = {region["id"] for region in result if region["from_name"] == "faces"}
        names = [region for region in result if region["from_name"] == "who"]
        assert len(boxes) == len([r for r in result if r["from_name"] == "faces"])  # each face once
        assert {region["id"] for region in names} <= boxes
        right += [region["value"]["text"][0] in {name for name, _, _ in people[task_id]} for region in names]
    assert len(right) > 10
    assert np.mean(right) > 0.8
