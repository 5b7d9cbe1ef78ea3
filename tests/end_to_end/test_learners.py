"""A project learns with another kind of committee, and changes it while it runs."""

from collections.abc import Callable

import httpx

from backend.labelstudio.labeling_config import read_labeling_config
from backend.learners.classification import HeadCommittee
from backend.learners.multilayer import MultilayerCommittee
from backend.loop.learning import learner_of
from tests.conftest import DigitsProject
from tests.end_to_end.running_loop import RunningLoop, digits_config, wait_for
from tests.end_to_end.test_changes import set_config
from tests.end_to_end.test_closed_loop import FAST, label


def test_dropout_learns_ranks_and_answers_and_gives_way_to_linear_heads(
    loop: RunningLoop, make_project: Callable[..., DigitsProject], http: httpx.Client
) -> None:
    settings = FAST | {"window": 10, "labels_per_round": 6, "strategy": "bald", "audit_share": 0}
    project = make_project(60, label_config=digits_config(**settings, learner="dropout"))
    loop.connect(project.id)
    loop.wait_for_round(project.id, 0)
    annotator = loop.annotator(project.id)
    for task_id in loop.queue(project.id)[:6]:
        label(annotator, project, task_id)
    trained = loop.wait_for_round(project.id, 1)
    assert trained.trained
    (control,) = read_labeling_config(trained.label_config).controls
    committee = learner_of(loop.deployment, trained, control)
    assert isinstance(committee, MultilayerCommittee)
    assert (committee.members, len(committee.hidden)) == (8, 1)

    outside = loop.without_prediction(project.id)
    opened = http.get(f"/api/tasks/{outside}", params={"project": project.id}).raise_for_status().json()
    (region,) = opened["predictions"][0]["result"]
    assert region["value"]["choices"][0] in committee.classes

    set_config(http, project.id, *"0123456789", **settings, learner="linear")
    wait_for(
        "a round with linear heads",
        lambda: (
            (served := loop.served(project.id)).number > trained.number
            and isinstance(learner_of(loop.deployment, served, control), HeadCommittee)
        ),
    )
