"""Publishing on a real Label Studio: when what earlier rounds left is deleted, and what is told of a slow import."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Text, cast, event, insert, literal, select, update

from backend.demo.label_studio import LabelStudioServer
from backend.labelstudio.client import BATCHED_IMPORT
from backend.loop import publishing
from backend.loop.events import LULL
from backend.loop.publishing import clean_up, top_up
from backend.store.tables import Event, Project, ProjectState, QueueEntry, Round, Task, now
from tests.conftest import LABEL_CONFIG, DigitsProject, new_deployment

VERSIONS = ("round-0-a", "round-1-b", "round-2-c")
ROUNDS = 70_000


class Published:
    """A project of three tasks, for which three rounds have published; the last is served."""

    def __init__(self, folder: Path, server: LabelStudioServer, project: DigitsProject) -> None:
        self.deployment = new_deployment(folder, label_studio_url=server.url, api_key=server.api_key)
        self.project_id, self.first_task = project.id, min(project.digits)
        client = self.deployment.label_studio
        for version in (*VERSIONS, "someone-else's"):
            predictions = [
                {"task": task, "result": [], "score": 0.5, "model_version": version}
                for task in project.digits
            ]
            client.import_predictions(project.id, predictions)
        client.set_model_version(project.id, VERSIONS[-1])
        with self.deployment.database.write() as session:
            session.add(Project(id=project.id))
            session.flush()
            self.rounds = [
                Round(project_id=project.id, number=number, version=version, reason="", step="clean")
                for number, version in enumerate(VERSIONS)
            ]
            session.add_all(self.rounds)
            session.flush()
            session.add_all(
                QueueEntry(round_id=one.id, rank=0, task_id=self.first_task, reason="") for one in self.rounds
            )

    def label(self, seconds_ago: float = 0.0) -> None:
        """Somebody has labeled a task, for so long nobody since."""
        with self.deployment.database.write() as session:
            session.add(Event(project_id=self.project_id, action="ANNOTATION_CREATED", task_ids=[1]))
            session.flush()
            session.execute(update(Event).values(received_at=now() - timedelta(seconds=seconds_ago)))

    def versions(self) -> set[str]:
        return set(self.deployment.label_studio.model_versions(self.project_id))

    def queues(self) -> set[int]:
        with self.deployment.database.read() as session:
            return {entry.round_id for entry in session.query(QueueEntry)}


@pytest.fixture
def published(
    tmp_path: Path, label_studio: LabelStudioServer, make_project: Callable[..., DigitsProject]
) -> Published:
    return Published(tmp_path, label_studio, make_project(3))


def test_what_earlier_rounds_published_stays_while_people_label(published: Published) -> None:
    published.label()
    assert not clean_up(published.deployment, published.rounds[-1])
    assert published.versions() == {*VERSIONS, "someone-else's"}
    assert published.queues() == {published.rounds[-1].id}
    published.label(seconds_ago=LULL + 1)
    assert clean_up(published.deployment, published.rounds[-1])
    assert published.versions() == {VERSIONS[-1], "someone-else's"}


def test_without_any_label_it_is_deleted_at_once(published: Published) -> None:
    assert clean_up(published.deployment, published.rounds[-1])
    assert published.versions() == {VERSIONS[-1], "someone-else's"}


def test_of_too_much_the_oldest_is_deleted_whoever_labels(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    published.label()
    monkeypatch.setattr(publishing, "KEPT_PREDICTIONS", 5)  # of two times three
    assert not clean_up(published.deployment, published.rounds[-1])
    assert published.versions() == {*VERSIONS[1:], "someone-else's"}


def test_a_label_of_a_time_to_come_does_not_hold_it_up_for_ever(published: Published) -> None:
    """As after the clock was put back."""
    published.label(seconds_ago=-3600)
    assert clean_up(published.deployment, published.rounds[-1])


def test_a_slow_import_is_told_with_the_remedy(
    published: Published, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(publishing, "SLOW_IMPORT", 0.0)
    served = published.rounds[-1]
    published.deployment.label_studio.delete_predictions(published.project_id, served.version)
    with published.deployment.database.write() as session:
        session.add(Task(project_id=published.project_id, id=published.first_task, source="a.png"))
        project = session.get_one(Project, published.project_id)
        project.state, project.published_round = ProjectState.ACTIVE, served.id
        project.label_config = LABEL_CONFIG
        session.get_one(Round, served.id).facts = {"window": 2}
    assert top_up(published.deployment, published.project_id) == 1
    assert (
        f"its annotators waited meanwhile. Where the project is large, start it with {BATCHED_IMPORT}=true"
        in caplog.text
    )


def test_any_number_of_rounds_may_have_been(published: Published) -> None:
    """More than a statement takes parameters: 32,766 on SQLite, 65,535 on PostgreSQL."""
    numbers = select(literal(len(VERSIONS)).label("number")).cte(recursive=True)
    numbers = numbers.union_all(select(numbers.c.number + 1).where(numbers.c.number < ROUNDS - 1))
    values = {
        "project_id": literal(published.project_id),
        "number": numbers.c.number,
        "version": literal("round-") + cast(numbers.c.number, Text),
        "reason": literal(""),
        "step": literal("clean"),
    }
    latest = Round(project_id=published.project_id, number=ROUNDS, version="latest", reason="", step="clean")
    with published.deployment.database.write() as session:
        session.execute(insert(Round).from_select(list(values), select(*values.values())))
        session.add(latest)
    statements: list[str] = []
    engine = published.deployment.database.engine
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    assert clean_up(published.deployment, latest)
    assert not any("rounds.log" in sql or "rounds.facts" in sql for sql in statements)
    assert published.versions() == {"someone-else's"}
    assert published.queues() == set()
