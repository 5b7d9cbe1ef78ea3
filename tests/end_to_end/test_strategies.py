"""Strategies that need more than probabilities, in the loop on a real Label Studio."""

from collections.abc import Callable

import label_studio_sdk

from tests.conftest import DigitsProject
from tests.end_to_end.command import status
from tests.end_to_end.running_loop import RunningLoop, digits_config, wait_for

FAST = {"labels_per_round": 8, "minimum_labels": 5, "debounce_seconds": 0, "window": 12, "audit_share": 0}


def give_metadata(loop: RunningLoop, project: DigitsProject) -> dict[int, str]:
    """One task in six is of a rainy day; returns the weather of each."""
    sdk = label_studio_sdk.LabelStudio(base_url=loop.label_studio.url, api_key=loop.label_studio.api_key)
    weather = {task_id: "sun" if place % 6 else "rain" for place, task_id in enumerate(project.digits)}
    for task in sdk.tasks.list(project=project.id, page_size=100):
        sdk.tasks.update(id=str(task.id), data={**task.data, "weather": weather[task.id]})
    return weather


def label_next(loop: RunningLoop, project: DigitsProject, count: int) -> list[int]:
    """Label in the order of Label Studio's queue; returns what it asked."""
    annotator, asked = loop.annotator(project.id), []
    for _ in range(count):
        task = annotator.next_task()
        assert task is not None
        annotator.choose(task.id, "digit", "image", [str(project.digits[task.id])])
        asked.append(task.id)
    return asked


def test_the_queue_is_balanced_by_metadata(
    loop: RunningLoop, make_project: Callable[..., DigitsProject]
) -> None:
    quotas = "{quotas: {strategy: margin, over: weather, target: uniform}}"
    project = make_project(60, label_config=digits_config(**FAST, strategy=quotas))
    weather = give_metadata(loop, project)
    loop.connect(project.id)
    loop.wait_for_round(project.id, 0)
    labeled = label_next(loop, project, 8)
    assert loop.wait_for_round(project.id, 1).trained
    labeled += label_next(loop, project, 8)
    rainy = sum(weather[task_id] == "rain" for task_id in labeled)
    # Ten of sixty are; with eight more labels of which all may be rainy, half of the labels can be.
    assert rainy == 8
    stored = loop.task(project.id, labeled[0])
    assert stored is not None and stored.groups == {"weather": weather[labeled[0]]}


def test_a_metadata_field_that_no_task_has_is_told_and_the_old_queue_stays(
    loop: RunningLoop, make_project: Callable[..., DigitsProject]
) -> None:
    quotas = "{quotas: {strategy: margin, over: camera}}"
    project = make_project(30, label_config=digits_config(**FAST, strategy=quotas))
    loop.connect(project.id)
    before = loop.wait_for_round(project.id, 0)
    label_next(loop, project, 8)
    problem = wait_for("the problem", lambda: loop.project(project.id).problem)
    assert "setting 'strategy': This strategy needs the metadata field 'camera'" in problem
    assert "There are: none" in problem
    assert loop.client.project(project.id).model_version == before.version
    wanted = loop.queue(project.id)[:2]
    assert label_next(loop, project, 2) == wanted


def test_the_strategy_sees_another_embedding_than_the_learner(
    loop: RunningLoop, make_project: Callable[..., DigitsProject]
) -> None:
    settings = {
        "embedding": "self-supervised",
        "selection_embedding": "self-supervised+self-supervised",
        "strategy": "k_center_greedy",
        "stopping": "{budget: 16}",
    }
    project = make_project(40, label_config=digits_config(**FAST, **settings))
    loop.connect(project.id)
    loop.wait_for_round(project.id, 0)
    label_next(loop, project, 8)
    loop.wait_for_round(project.id, 1)
    label_next(loop, project, 8)
    done = loop.wait_for_round(project.id, 2)
    facts = done.facts
    name = facts["embedder"].split("+")
    assert len(name) == 3 and len(set(name)) == 1
    _, vectors = loop.deployment.embeddings.read(project.id, facts["embedder"])
    assert vectors.shape[1] == 3 * facts["learner_dimensions"]
    wait_for("the stop", lambda: (latest := loop.latest(project.id)) and latest.facts.get("stop"))
    assert "You may stop: the budget of 16 labels is used up." in status(loop, project.id)
