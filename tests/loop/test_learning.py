"""What a round notes of the labeled set."""

from pathlib import Path

import pytest

from backend.deployment import Deployment
from backend.loop.learning import DISAGREEMENTS_KEPT, disagreements
from backend.loop.status import learned
from backend.store.tables import Project, Round, Task
from tests.conftest import new_deployment


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """A project of 250 tasks on which annotators disagree, and of two others."""
    made = new_deployment(tmp_path)
    target = {"digit": {"votes": {"3": 0.5, "8": 0.5}}}
    with made.database.write() as session:
        session.add(Project(id=1))
        session.flush()
        tasks = {"project_id": 1, "source": "a.png"}
        session.add_all(Task(id=number, target=target, agreement=0.5, **tasks) for number in range(1, 251))
        session.add(Task(id=251, target=target, agreement=1.0, **tasks))
        session.add(Task(id=252, agreement=0.5, **tasks))
    return made


def test_a_round_names_the_first_tasks_on_which_annotators_disagree_and_counts_all(
    deployment: Deployment,
) -> None:
    noted = disagreements(deployment, 1)
    assert noted == {"disagreements": list(range(1, DISAGREEMENTS_KEPT + 1)), "disagreement_count": 250}
    sentence = "Annotators disagree on 250 tasks: #1, #2, #3, #4, #5, ...."
    assert learned(deployment, Round(project_id=1, facts=noted)) == [sentence]
    # Earlier versions noted all of them, and no count.
    of_before = {"disagreements": list(range(1, 251))}
    assert learned(deployment, Round(project_id=1, facts=of_before)) == [sentence]
