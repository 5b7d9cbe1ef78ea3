"""The main job for boxes, regions and faces: connect, cold start, label in queue order, retrain, flip, pre-annotate."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from label_studio_sdk.converter import brush
from PIL import Image
from playwright.sync_api import Page, expect
from sqlalchemy import select

from backend.demo.label_studio import LabelStudioServer
from backend.store.tables import QueueEntry
from tests.conftest import make_image_project
from tests.end_to_end import scenes
from tests.end_to_end.command import quick_command
from tests.end_to_end.running_loop import RunningLoop, learned
from tests.end_to_end.test_browser import logged_in, page

__all__ = ["logged_in", "page"]  # fixtures

LABELS = 20
FAST = (
    f'model_labels_per_round="{LABELS}" model_minimum_labels="5" model_debounce_seconds="0" model_window="30" '
    'model_audit_share="0.2" model_members="4"'
)
IMAGE = '<Image name="image" value="$image"/>'


def labels(names: Sequence[str]) -> str:
    return "".join(f'<Label value="{name}"/>' for name in names)


def view(*controls: str) -> str:
    return f"<View {FAST}>{IMAGE}{''.join(controls)}</View>"


BOXES = f'<RectangleLabels name="boxes" toName="image">{labels(scenes.DIGITS)}</RectangleLabels>'
REGIONS = f'<BrushLabels name="regions" toName="image">{labels(scenes.DIGITS)}</BrushLabels>'
HOW_MANY = (
    '<Choices name="count" toName="image">'
    + "".join(f'<Choice value="{n}"/>' for n in range(3))
    + "</Choices>"
)


class ScenesProject:
    """A project of scenes, and an annotator who knows them."""

    def __init__(
        self,
        loop: RunningLoop,
        server: LabelStudioServer,
        folder: Path,
        config: str,
        answer: Callable[[Sequence[scenes.Thing]], list[dict[str, Any]]],
        count: int = 60,
    ) -> None:
        drawn = [scenes.scene(number) for number in range(count)]
        self.loop, self.answer = loop, answer
        self.id, ids, _ = make_image_project(
            server, folder, [image for image, _ in drawn], title="Scenes", label_config=config
        )
        self.things = {task_id: things for task_id, (_, things) in zip(ids, drawn, strict=True)}

    def label_in_queue_order(self) -> None:
        """Label as many as start a round, and see them served in the order of the ranking."""
        annotator = self.loop.annotator(self.id)
        for task_id in self.loop.queue(self.id)[:LABELS]:
            asked = annotator.next_task()
            assert asked is not None and asked.id == task_id
            annotator.answer(task_id, self.answer(self.things[task_id]))

    def run_until_trained(self) -> Mapping[str, Any]:
        """Connect, label what makes a round due, and see the queue flip; what the round notes of its controls."""
        self.loop.connect(self.id)
        first = self.loop.wait_for_round(self.id, 0)
        assert not first.trained
        before = self.loop.queue(self.id)
        self.label_in_queue_order()
        done = self.loop.wait_for_round(self.id, 1)
        assert done.trained
        assert self.loop.client.project(self.id).model_version == done.version
        assert self.loop.queue(self.id) != before[LABELS:]
        controls: Mapping[str, Any] = done.facts["controls"]
        return controls


def stored_predictions(
    loop: RunningLoop, http: httpx.Client, project_id: int
) -> dict[int, list[dict[str, Any]]]:
    """What Label Studio holds of the served version, by task."""
    version = loop.served(project_id).version
    answer = http.get("/api/predictions/", params={"project": project_id}).raise_for_status()
    return {p["task"]: p["result"] for p in answer.json() if p["model_version"] == version}


def overlap(value: Mapping[str, float], thing: scenes.Thing) -> float:
    """Intersection over union of a rectangle, in percent, with a thing's box."""
    left, top = value["x"] / 100 * scenes.WIDTH, value["y"] / 100 * scenes.HEIGHT
    right = left + value["width"] / 100 * scenes.WIDTH
    bottom = top + value["height"] / 100 * scenes.HEIGHT
    wide = min(right, thing.right) - max(left, thing.left)
    high = min(bottom, thing.bottom) - max(top, thing.top)
    common = max(0.0, wide) * max(0.0, high)
    areas = (right - left) * (bottom - top) + (thing.right - thing.left) * (thing.bottom - thing.top)
    return common / (areas - common)


def found_share(project: ScenesProject, predictions: Mapping[int, Sequence[Mapping[str, Any]]]) -> float:
    """Share of the things in the predicted tasks on which a rectangle lies."""
    found = [
        any(overlap(region["value"], thing) > 0.5 for region in result if region["from_name"] == "boxes")
        for task_id, result in predictions.items()
        for thing in project.things[task_id]
    ]
    return float(np.mean(found))


@pytest.mark.timeout(600)
def test_regions(
    loop: RunningLoop,
    label_studio: LabelStudioServer,
    local_files: Path,
    http: httpx.Client,
    logged_in: Page,
    give_embedder: Callable[[int], None],
) -> None:
    project = ScenesProject(
        loop, label_studio, local_files, view(REGIONS), lambda things: scenes.brush_result(things, "regions")
    )
    give_embedder(project.id)
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
def test_boxes_and_a_class_in_one_config(
    loop: RunningLoop,
    label_studio: LabelStudioServer,
    local_files: Path,
    http: httpx.Client,
    logged_in: Page,
    give_embedder: Callable[[int], None],
) -> None:
    def answer(things: Sequence[scenes.Thing]) -> list[dict[str, Any]]:
        count = {"choices": [str(len(things))]}
        choice = {"from_name": "count", "to_name": "image", "type": "choices", "value": count}
        return [choice, *scenes.boxes_result(things, "boxes")]

    project = ScenesProject(loop, label_studio, local_files, view(HOW_MANY, BOXES), answer)
    give_embedder(project.id)
    controls = project.run_until_trained()
    assert list(controls) == ["count", "boxes"]
    assert [facts["task"] for facts in controls.values()] == ["classification", "detection"]
    assert all(facts["trained"] and facts["measured"] for facts in controls.values())
    measured = controls["boxes"]["measured"]
    assert measured["metric"] == "mean average precision at 0.5 overlap"
    assert 0 <= measured["score"] <= 1
    reasons = queue_reasons(loop, project.id)
    assert {reason.split(":")[0] for reason in reasons} >= {"count", "boxes"}
    predictions = stored_predictions(loop, http, project.id)
    assert predictions.keys() >= set(loop.queue(project.id))
    kinds = {region["from_name"] for result in predictions.values() for region in result}
    assert kinds == {"count", "boxes"}
    assert found_share(project, predictions) > 0.6
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


def queue_reasons(loop: RunningLoop, project_id: int) -> list[str]:
    """Why the tasks of the queue were chosen."""
    with loop.deployment.database.read() as session:
        return list(
            session.scalars(
                select(QueueEntry.reason).where(QueueEntry.round_id == loop.served(project_id).id)
            )
        )


def see_next_task(
    page: Page, loop: RunningLoop, project_id: int, predictions: Mapping[int, Sequence[Mapping[str, Any]]]
) -> None:
    """Open the next task with a predicted region in the browser, as an annotator does, and see all of its regions.

    Tasks before it are skipped; a class of the whole image is no region.
    """
    queue = loop.queue(project_id)
    regions = [sum(region["type"] != "choices" for region in predictions[task_id]) for task_id in queue]
    place = next(place for place, count in enumerate(regions) if count)
    for task_id in queue[:place]:
        loop.annotator(project_id).skip(task_id)
    page.goto(f"{loop.label_studio.url}/projects/{project_id}/data", wait_until="domcontentloaded")
    with page.expect_response(lambda response: "id=next_task" in response.url) as asked:
        page.get_by_role("button", name="Label All Tasks").click()
    assert asked.value.json()["id"] == queue[place]
    page.wait_for_selector("canvas", timeout=30_000)
    expect(page.locator(".lsf-outliner-item")).to_have_count(regions[place])
    if "SCREENSHOT" in os.environ:
        page.wait_for_timeout(2_000)
        page.screenshot(path=f"{os.environ['SCREENSHOT']}-{project_id}.png")
