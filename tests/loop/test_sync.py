"""What a real Label Studio holds after the look for changes that no webhook told of, and what the next sync reads."""

import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import label_studio_sdk
import pytest
from sqlalchemy import select

from backend.demo.annotator import Annotator
from backend.demo.label_studio import LabelStudioServer
from backend.loop import sync as module
from backend.loop.events import Outcome, pending_events, record
from backend.loop.sync import labels_differ, sync
from backend.store.tables import Project, ProjectState, Task
from tests.conftest import DigitsProject, choice, new_deployment

NO_IMAGE = "/data/upload/none.png"


class Synced:
    """A project of four tasks that the store knows."""

    def __init__(self, folder: Path, server: LabelStudioServer, project: DigitsProject) -> None:
        self.deployment = new_deployment(folder, label_studio_url=server.url, api_key=server.api_key)
        self.project_id = project.id
        with self.deployment.database.write() as session:
            session.add(Project(id=project.id, state=ProjectState.ACTIVE))
        sync(self.deployment, project.id)
        self.first, *_ = sorted(project.digits)
        self.sdk = label_studio_sdk.LabelStudio(base_url=server.url, api_key=server.api_key)
        self.annotator = Annotator(server.url, server.api_key, project.id)

    def add(self, *tasks: dict[str, Any]) -> list[int]:
        """Import tasks; their ids."""
        before = self.in_label_studio()
        self.sdk.projects.import_tasks(id=self.project_id, request=list(tasks))
        return sorted(self.in_label_studio() - before)

    def tell(self, action: str, **payload: Any) -> None:
        """What Label Studio's webhook brings about."""
        assert record(self.deployment.database, action, self.project_id, payload) == Outcome.RECORDED

    def look(self) -> bool:
        return labels_differ(self.deployment, self.project())

    def project(self) -> Project:
        with self.deployment.database.read() as session:
            return session.get_one(Project, self.project_id)

    def told(self) -> list[tuple[str, list[int]]]:
        """The events that no sync has covered."""
        events = pending_events(self.deployment.database, self.project())
        return [(event.action, event.task_ids) for event in events]

    def in_label_studio(self) -> set[int]:
        return self.deployment.label_studio.task_ids(self.project_id)

    def skips(self) -> dict[int, int]:
        """Of each task that the store knows."""
        with self.deployment.database.read() as session:
            return {row.id: row.skips for row in session.execute(select(Task.id, Task.skips))}


@pytest.fixture
def synced(
    tmp_path: Path, label_studio: LabelStudioServer, make_project: Callable[..., DigitsProject]
) -> Synced:
    return Synced(tmp_path, label_studio, make_project(4))


@pytest.fixture
def long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was changed until the last look is older than what a sync reads once more."""
    monkeypatch.setattr(module, "OVERLAP", timedelta(seconds=-1))


@pytest.mark.usefixtures("long_ago")
@pytest.mark.parametrize("webhook", [True, False])
def test_new_tasks_that_were_looked_at_are_read_by_the_next_sync(
    synced: Synced, webhook: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    added = synced.add({"image": NO_IMAGE}, {"image": NO_IMAGE})
    if webhook:
        synced.tell("TASKS_CREATED", tasks=[{"id": task_id} for task_id in added])
    with monkeypatch.context() as recent:
        recent.setattr(module, "OVERLAP", timedelta(seconds=10))
        assert not synced.look()
    assert synced.told() == [("TASKS_CREATED", added)]
    assert not synced.look()  # they are not read again
    assert synced.told() == [("TASKS_CREATED", added)]
    for task_id in (synced.first, synced.first + 1):  # so that their number tells nothing
        synced.sdk.tasks.delete(task_id)
    sync(synced.deployment, synced.project_id)
    assert synced.skips().keys() == synced.in_label_studio() >= set(added)
    assert "reading everything" not in caplog.text


def test_labels_that_come_with_new_tasks_are_a_difference(synced: Synced) -> None:
    (added,) = synced.add({"data": {"image": NO_IMAGE}, "annotations": [{"result": choice(3)}]})
    synced.tell("TASKS_CREATED", tasks=[{"id": added}])
    assert synced.look()


def test_a_skip_is_a_difference_unless_it_was_told(synced: Synced) -> None:
    synced.annotator.skip(synced.first)
    assert synced.look()
    payload = {"task": {"id": synced.first}, "annotation": {"was_cancelled": True}}
    synced.tell("ANNOTATION_CREATED", **payload)
    assert not synced.look()


@pytest.mark.usefixtures("long_ago")
def test_a_skip_that_was_told_is_read_by_the_next_sync(
    synced: Synced, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced.annotator.skip(synced.first)
    synced.tell("ANNOTATION_CREATED", task={"id": synced.first}, annotation={"was_cancelled": True})
    with monkeypatch.context() as recent:
        recent.setattr(module, "OVERLAP", timedelta(seconds=10))
        assert not synced.look()
    sync(synced.deployment, synced.project_id)
    assert synced.skips()[synced.first] == 1
    assert not synced.look()
