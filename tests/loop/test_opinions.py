from pathlib import Path

import numpy as np
import pytest

from backend.deployment import Deployment
from backend.labelstudio.labeling_config import read_labeling_config
from backend.learners.class_answers import ClassAnswers
from backend.learners.classification import HeadCommittee
from backend.loop.opinions import FILE, keep_opinions, opinions_artifact, read_opinions
from backend.store.tables import Round
from tests.conftest import new_deployment

CONFIG = """<View><Image name="image" value="$image"/><Choices name="kind" toName="image"{more}>
<Choice value="a"/><Choice value="b"/><Choice value="c"/><Choice value="d"/></Choices></View>"""
CLASSES = ("a", "b", "c", "d")
CURRENT = Round(project_id=1, version="round-1-abc")


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return new_deployment(tmp_path)


def keep(deployment: Deployment, ids: list[int], probabilities: list[list[float]], *, several: bool) -> None:
    """Keep the opinions of a committee whose members agree."""
    (control,) = read_labeling_config(CONFIG.format(more=' choice="multiple"' if several else "")).controls
    members = np.array([probabilities, probabilities], np.float32)
    learner = HeadCommittee(
        CLASSES, several, np.zeros((2, 3, 4), np.float32), np.zeros((2, 4), np.float32), 1.0
    )
    answers = ClassAnswers(CLASSES, several, members)
    keep_opinions(deployment, CURRENT, control, learner, np.array(ids), answers)


def test_uncertainty_is_the_share_of_the_most_that_is_possible(deployment: Deployment) -> None:
    keep(deployment, [7, 3], [[0.25, 0.25, 0.25, 0.25], [0, 0, 1, 0]], several=False)
    (control,) = read_labeling_config(CONFIG.format(more="")).controls
    found = read_opinions(deployment, CURRENT, control)
    assert found is not None
    assert found.task_ids.tolist() == [3, 7]
    assert found.uncertainty.tolist() == [0, 1]
    assert found.likeliest[0] == 2
    assert found.classes == CLASSES


def test_of_several_classes_none_may_be_likely(deployment: Deployment) -> None:
    keep(deployment, [1, 2], [[0.5, 0.5, 0.5, 0.5], [0, 0, 0, 0.1]], several=True)
    (control,) = read_labeling_config(CONFIG.format(more=' choice="multiple"')).controls
    found = read_opinions(deployment, CURRENT, control)
    assert found is not None
    assert found.uncertainty[0] == 1
    assert found.uncertainty[1] < 0.2
    assert found.likeliest.tolist() == [0, -1]


def test_what_is_not_there_or_damaged_is_no_opinion(deployment: Deployment) -> None:
    (control,) = read_labeling_config(CONFIG.format(more="")).controls
    assert read_opinions(deployment, CURRENT, control) is None
    keep(deployment, [1], [[1, 0, 0, 0]], several=False)
    (deployment.artifacts.reading(opinions_artifact(CURRENT, control)) / FILE).write_bytes(b"nonsense")
    assert read_opinions(deployment, CURRENT, control) is None
