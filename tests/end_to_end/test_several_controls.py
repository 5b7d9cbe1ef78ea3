"""Boxes and a class asked for in one labeling config: a learner each, and they choose in turn."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.sync_api import Page
from sqlalchemy import select

from backend.store.tables import QueueEntry
from tests.end_to_end import scenes
from tests.end_to_end.running_loop import RunningLoop
from tests.end_to_end.scenes_project import ScenesProject, labels, see_next_task, stored_predictions, view
from tests.end_to_end.test_browser import logged_in, page

__all__ = ["logged_in", "page"]  # fixtures

BOXES = f'<RectangleLabels name="boxes" toName="image">{labels(scenes.DIGITS)}</RectangleLabels>'
HOW_MANY = (
    '<Choices name="count" toName="image">'
    + "".join(f'<Choice value="{n}"/>' for n in range(3))
    + "</Choices>"
)


@pytest.mark.timeout(600)
def test_boxes_and_a_class_in_one_config(
    loop: RunningLoop, make_scenes: Callable[..., ScenesProject], http: httpx.Client, logged_in: Page
) -> None:
    def answer(things: Sequence[scenes.Thing]) -> list[dict[str, Any]]:
        count = {"choices": [str(len(things))]}
        choice = {"from_name": "count", "to_name": "image", "type": "choices", "value": count}
        return [choice, *scenes.boxes_result(things, "boxes")]

    project = make_scenes(view(HOW_MANY, BOXES), answer)
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


def queue_reasons(loop: RunningLoop, project_id: int) -> list[str]:
    """Why the tasks of the queue were chosen."""
    with loop.deployment.database.read() as session:
        return list(
            session.scalars(
                select(QueueEntry.reason).where(QueueEntry.round_id == loop.served(project_id).id)
            )
        )
