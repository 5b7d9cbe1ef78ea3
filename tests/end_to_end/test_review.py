"""What a worker looks back on after a round: likely label errors, and what random order would have reached."""

from collections.abc import Callable, Mapping
from typing import Any

from tests.conftest import DigitsProject
from tests.end_to_end.running_loop import RunningLoop, digits_config, learned, wait_for

SETTINGS = {
    "labels_per_round": 110,
    "round_after_seconds": 10_000,
    "debounce_seconds": 0,
    "window": 120,
    "audit_share": 0.2,
    "members": 2,
}


def test_a_worker_reviews_a_round_once_it_is_done(
    loop: RunningLoop, make_project: Callable[..., DigitsProject]
) -> None:
    project = make_project(140, label_config=digits_config(**SETTINGS))
    loop.connect(project.id)
    loop.wait_for_round(project.id, 0)
    annotator = loop.annotator(project.id)
    order = loop.queue(project.id)[:110]
    flipped = set(order[5::20])
    for task_id in order:
        digit = (project.digits[task_id] + (task_id in flipped)) % 10
        annotator.choose(task_id, "digit", "image", [str(digit)])
    done = loop.wait_for_round(project.id, 1)
    assert done.trained

    def reviewed() -> Mapping[str, Any] | None:
        facts = learned(loop.served(project.id))
        return facts if "label_errors" in facts and "random_order" in facts else None

    facts = wait_for("the review of the round", reviewed)
    # The round's own facts are still there.
    assert facts["measured"] == learned(done)["measured"]
    errors = facts["label_errors"]
    assert errors["judged"] == len(order)
    assert flipped & {error["task"] for error in errors["errors"]}
    assert len({error["task"] for error in errors["errors"]} - flipped) <= 2
    found = facts["random_order"]
    assert found["points"]
    assert found["random_labels"]["low"] >= found["points"][0]["labels"]
    assert "Random order would have needed" in found["sentence"]
