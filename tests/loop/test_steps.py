"""What a step does where what it needs is lost."""

from pathlib import Path

import pytest

from backend.deployment import Deployment
from backend.loop import steps
from backend.loop.round_run import RoundRun
from backend.loop.rounds import LEARNER_OF
from backend.store.artifacts import models
from backend.store.leases import lease
from backend.store.tables import Project, ProjectState, Round
from tests.conftest import new_deployment

CONFIG = """<View><Image name="image" value="$image"/>
<Choices name="kind" toName="image"><Choice value="cat"/><Choice value="dog"/></Choices></View>"""


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """A project with two rounds, of which the second takes over what the first learned."""
    made = new_deployment(tmp_path)
    with made.database.write() as session:
        session.add(Project(id=1, state=ProjectState.ACTIVE, label_config=CONFIG, paused=True))
        session.flush()
        facts = [{"embedder": "small", "controls": {"kind": {"trained": True}}}, {LEARNER_OF: "round-0-a"}]
        session.add_all(
            Round(
                id=i + 1, project_id=1, number=i, version=f"round-{i}-a", reason="", step="embed", facts=fact
            )
            for i, fact in enumerate(facts)
        )
    return made


@pytest.mark.parametrize("lost", [False, True])
def test_a_round_trains_a_model_where_the_one_that_it_was_to_take_over_is_lost(
    deployment: Deployment, lost: bool
) -> None:
    if not lost:
        with deployment.artifacts.writing(f"{models(1)}/round-0-a/kind") as folder:
            folder.mkdir(parents=True)
            (folder / "learner").write_text("weights")
    with lease(deployment.database, "round:1") as held:
        assert held is not None
        run = RoundRun(deployment, 2, held)
        assert run.learners_taken_from is not None
        steps.embed(run)
        steps.fit(run)
    assert (run.learners_taken_from is None) == lost
    assert run.current.facts["embedder"] == (None if lost else "small")
    assert run.current.trained is not lost
    assert deployment.artifacts.names(f"{models(1)}/round-1-a") == ([] if lost else ["kind"])
