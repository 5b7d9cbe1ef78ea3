"""A project of scenes, and what Label Studio holds and shows of it, for the tests of the tasks with regions."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page, expect

from backend.demo.label_studio import LabelStudioServer
from tests.conftest import make_image_project
from tests.end_to_end import scenes
from tests.end_to_end.running_loop import RunningLoop

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


Answer = Callable[[Sequence[scenes.Thing]], list[dict[str, Any]]]  # what a scene's annotator draws


class ScenesProject:
    """A project of scenes, and an annotator who knows them."""

    def __init__(
        self,
        loop: RunningLoop,
        server: LabelStudioServer,
        folder: Path,
        config: str,
        answer: Answer,
    ) -> None:
        drawn = [scenes.scene(number) for number in range(60)]
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
