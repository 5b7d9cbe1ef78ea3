"""Predictions that Label Studio asks for itself: on opening, for many tasks at once, and interactively."""

from collections.abc import Callable

import httpx
import pytest

from tests.conftest import DigitsProject
from tests.end_to_end.running_loop import RunningLoop, digits_config
from tests.end_to_end.test_closed_loop import FAST, train_first_model


@pytest.fixture(scope="module")
def trained(loop: RunningLoop, make_project: Callable[..., DigitsProject]) -> DigitsProject:
    """A project with a trained model, whose window holds a part of its tasks."""
    config = digits_config(**FAST | {"window": 10, "labels_per_round": 6})
    project = make_project(60, label_config=config)
    train_first_model(loop, project, labels=6)
    return project


def test_opening_a_task_outside_the_window(
    loop: RunningLoop, trained: DigitsProject, http: httpx.Client
) -> None:
    queue = loop.queue(trained.id)
    outside = loop.without_prediction(trained.id)
    for _ in range(2):  # the second time, the stored one serves
        opened = http.get(f"/api/tasks/{outside}", params={"project": trained.id}).raise_for_status().json()
        (prediction,) = opened["predictions"]
    assert prediction["model_version"] == loop.served(trained.id).version
    assert 0.5 <= prediction["score"] <= 1  # behind the whole queue
    (region,) = prediction["result"]
    assert region["value"]["choices"][0] in "0123456789"
    asked = loop.annotator(trained.id).next_task()
    assert asked is not None
    assert asked.id == queue[0]


def test_retrieving_predictions_of_all_tasks_keeps_the_order(
    loop: RunningLoop, trained: DigitsProject, http: httpx.Client
) -> None:
    queue = loop.queue(trained.id)
    selected = {"selectedItems": {"all": True, "excluded": []}}
    http.post(
        "/api/dm/actions",
        params={"id": "retrieve_tasks_predictions", "project": trained.id},
        json=selected,
    ).raise_for_status()
    version = loop.served(trained.id).version
    assert loop.client.model_versions(trained.id)[version] == len(trained.digits)  # one for each task
    annotator = loop.annotator(trained.id)
    for task_id in queue[:5]:
        asked = annotator.next_task()
        assert asked is not None
        assert asked.id == task_id
        annotator.skip(task_id)


def test_interactive_annotating_and_versions(
    loop: RunningLoop, trained: DigitsProject, http: httpx.Client
) -> None:
    (backend,) = loop.client.backends(trained.id)
    settings = {"url": backend.url, "project": trained.id, "auth_method": "NONE", "is_interactive": True}
    http.patch(f"/api/ml/{backend.id}", json=settings).raise_for_status()
    asked = http.post(
        f"/api/ml/{backend.id}/interactive-annotating",
        json={"task": min(trained.digits), "context": {"result": []}},
    )
    answer = asked.raise_for_status().json()
    assert "errors" not in answer, answer
    assert answer["data"]["model_version"] == loop.served(trained.id).version
    assert answer["data"]["result"][0]["value"]["choices"][0] in "0123456789"
    versions = http.get(f"/api/ml/{backend.id}/versions").raise_for_status().json()
    assert loop.served(trained.id).version in versions["versions"]
