"""The main job: connect, cold start, label in queue order, retrain, and see the queue flip."""

from collections.abc import Callable

import httpx

from backend.demo.annotator import Annotator
from tests.conftest import DigitsProject
from tests.end_to_end.running_loop import RunningLoop, digits_config, learned, wait_for

# Small rounds, so that a test sees several; no pause, so that none waits.
FAST = {"labels_per_round": 8, "minimum_labels": 5, "debounce_seconds": 0, "window": 24}


def label(annotator: Annotator, project: DigitsProject, task_id: int) -> None:
    annotator.choose(task_id, "digit", "image", [str(project.digits[task_id])])


def train_first_model(loop: RunningLoop, project: DigitsProject, labels: int) -> None:
    """Connect a project, and label as many tasks of its first queue as start a round, which trains a model."""
    loop.connect(project.id)
    loop.wait_for_round(project.id, 0)
    annotator = loop.annotator(project.id)
    for task_id in loop.queue(project.id)[:labels]:
        label(annotator, project, task_id)
    assert loop.wait_for_round(project.id, 1).trained


def test_the_queue_is_served_in_order_before_and_after_each_flip(
    loop: RunningLoop, make_project: Callable[..., DigitsProject]
) -> None:
    project = make_project(60, label_config=digits_config(**FAST))
    loop.connect(project.id)
    assert not loop.wait_for_round(project.id, 0).trained
    annotator = loop.annotator(project.id)
    seen: set[int] = set()
    for number in range(4):
        served = loop.served(project.id)
        assert served.number == number
        assert loop.client.project(project.id).model_version == served.version
        expected = loop.queue(project.id)
        assert len(expected) >= 24
        for task_id in expected[:8]:
            asked = annotator.next_task()
            assert asked is not None
            assert asked.id == task_id
            assert asked.id not in seen
            seen.add(asked.id)
            label(annotator, project, asked.id)
        assert loop.wait_for_round(project.id, number + 1).trained
    assert loop.targets(project.id).keys() == seen
    # Once nobody labels, what earlier rounds published is cleaned away.
    served = {loop.served(project.id).version}
    wait_for("a lull", lambda: loop.client.model_versions(project.id).keys() == served)


def test_the_audit_tasks_measure_the_model_and_never_train_it(
    loop: RunningLoop, make_project: Callable[..., DigitsProject]
) -> None:
    project = make_project(80, label_config=digits_config(**FAST, audit_share=0.25))
    loop.connect(project.id)
    loop.wait_for_round(project.id, 0)
    annotator = loop.annotator(project.id)
    for number in range(3):
        for task_id in loop.queue(project.id)[:8]:
            label(annotator, project, task_id)
        done = loop.wait_for_round(project.id, number + 1)
    labeled = loop.targets(project.id)
    audit = [task_id for task_id in labeled if (task := loop.task(project.id, task_id)) and task.audit]
    assert len(audit) == 6  # a quarter of 24
    assert learned(done)["validation"] == len(audit)
    assert learned(done)["training"] == len(labeled) - len(audit)
    assert learned(done)["measured"]["total"] == len(audit)


def test_three_annotators_each_get_the_best_task_that_nobody_holds(
    loop: RunningLoop, make_project: Callable[..., DigitsProject], new_annotator: Callable[[], str]
) -> None:
    project = make_project(60, label_config=digits_config(**FAST))
    loop.connect(project.id)
    loop.wait_for_round(project.id, 0)
    team = [loop.annotator(project.id)] + [loop.annotator(project.id, new_annotator()) for _ in range(2)]
    for number in range(3):
        expected = loop.queue(project.id)
        held = []
        for annotator in team:
            asked = annotator.next_task()
            assert asked is not None
            held.append(asked.id)
        assert held == expected[:3]
        following = iter(expected[3:])
        for turn in range(8):  # the one who finishes gets the best task that is left
            who = turn % 3
            label(team[who], project, held[who])
            if turn < 5:
                asked = team[who].next_task()
                assert asked is not None
                held[who] = asked.id
                assert asked.id == next(following)
        loop.wait_for_round(project.id, number + 1)


def test_the_window_is_topped_up_while_no_round_runs(
    loop: RunningLoop, make_project: Callable[..., DigitsProject]
) -> None:
    """Labels that start no round for a long while: the reserve of the same ranking is published in time."""
    settings = FAST | {"labels_per_round": 5, "round_after_seconds": 10_000, "window": 20}
    project = make_project(70, label_config=digits_config(**settings))
    loop.connect(project.id)
    loop.wait_for_round(project.id, 0)
    first = loop.queue(project.id)
    assert len(first) == 20
    annotator = loop.annotator(project.id)
    for task_id in first[:11]:  # a skip is no label, so no round starts
        asked = annotator.next_task()
        assert asked is not None
        assert asked.id == task_id
        annotator.skip(task_id)
    following = wait_for(
        "the window to be topped up", lambda: (queue := loop.queue(project.id)) != first[11:] and queue
    )
    assert following[:9] == first[11:]
    assert len(following) == 20
    assert loop.served(project.id).number == 0
    for task_id in following[:12]:
        asked = annotator.next_task()
        assert asked is not None
        assert asked.id == task_id
        annotator.skip(task_id)


def test_the_loop_goes_on_until_every_task_is_labeled(
    loop: RunningLoop, make_project: Callable[..., DigitsProject]
) -> None:
    project = make_project(30, label_config=digits_config(**FAST))
    loop.connect(project.id)
    loop.wait_for_round(project.id, 0)
    annotator = loop.annotator(project.id)
    count = 0
    while (asked := annotator.next_task()) is not None:
        assert asked.predictions, asked.queue
        label(annotator, project, asked.id)
        count += 1
    assert count == 30

    def stopped() -> bool:
        latest = loop.latest(project.id)
        return latest is not None and (latest.facts.get("stop") or "").startswith("every image is labeled")

    # The last labels are too few for a round of their own; Start training takes them in.
    backend = loop.client.backends(project.id)[0]
    headers = {"Authorization": loop.client.authorization()}
    response = httpx.post(f"{loop.label_studio.url}/api/ml/{backend.id}/train", headers=headers, timeout=30)
    assert response.is_success
    wait_for("the recommendation to stop", lambda: stopped() or None)


def test_start_training_starts_a_round_at_once(
    loop: RunningLoop, make_project: Callable[..., DigitsProject]
) -> None:
    project = make_project(30, label_config=digits_config(**FAST))
    loop.connect(project.id)
    loop.wait_for_round(project.id, 0)
    annotator = loop.annotator(project.id)
    label(annotator, project, loop.queue(project.id)[0])  # too few for a round
    backend = loop.client.backends(project.id)[0]
    headers = {"Authorization": loop.client.authorization()}
    httpx.post(
        f"{loop.label_studio.url}/api/ml/{backend.id}/train", headers=headers, timeout=30
    ).raise_for_status()
    done = loop.wait_for_round(project.id, 1)
    assert done.reason == "someone pressed Start training"
    assert done.facts["labels"] == 1


def test_predictions_are_shown_and_carry_their_confidence(
    loop: RunningLoop, make_project: Callable[..., DigitsProject]
) -> None:
    project = make_project(40, label_config=digits_config(**FAST | {"window": 10, "labels_per_round": 2}))
    loop.connect(project.id)
    loop.wait_for_round(project.id, 0)
    annotator = loop.annotator(project.id)
    first = annotator.next_task()
    assert first is not None
    assert first.predictions[0]["result"] == []  # cold start: the order, but no guess
    for task_id in loop.queue(project.id)[:10]:
        label(annotator, project, task_id)
    done = loop.wait_for_round(project.id, 1)
    wait_for("a trained round", lambda: (r := loop.latest(project.id)) and r.trained and r.state == "done")
    done = loop.served(project.id)
    asked = annotator.next_task()
    assert asked is not None
    prediction = asked.predictions[0]
    assert prediction["model_version"] == done.version
    assert 0 <= prediction["score"] < 0.5
    region = prediction["result"][0]
    assert region["value"]["choices"][0] in "0123456789"
    assert 0 < region["score"] <= 1


def test_multiple_choice_learns_each_class_and_none_of_them(
    loop: RunningLoop, make_project: Callable[..., DigitsProject]
) -> None:
    config = digits_config(("even", "small"), **FAST).replace("<Choices ", '<Choices choice="multiple" ')
    project = make_project(30, label_config=config)
    loop.connect(project.id)
    loop.wait_for_round(project.id, 0)
    annotator = loop.annotator(project.id)
    truth = {
        task_id: [name for name, holds in (("even", digit % 2 == 0), ("small", digit < 5)) if holds]
        for task_id, digit in project.digits.items()
    }
    for number in range(2):
        for task_id in loop.queue(project.id)[:8]:
            asked = annotator.next_task()
            assert asked is not None
            assert asked.id == task_id
            annotator.choose(task_id, "digit", "image", truth[task_id])
        done = loop.wait_for_round(project.id, number + 1)
    assert done.trained
    known = loop.targets(project.id)
    assert {task_id: sorted(votes) for task_id, votes in known.items()} == {
        task_id: truth[task_id] for task_id in known
    }
    assert any(not votes for votes in known.values())
    predicted = [loop.predicted_choice(project.id, task_id) for task_id in loop.queue(project.id)]
    assert {name for choices in predicted for name in choices} <= {"even", "small"}
    assert any(choices for choices in predicted)
