"""What a worker concludes when Label Studio's project cannot be found."""

from pathlib import Path
from typing import Any, NoReturn

import pytest

from backend.deployment import Deployment
from backend.labelstudio.client import LabelStudio, LabelStudioUnavailable, ProjectNotFound
from backend.loop.reconciliation import notice_missed_changes
from backend.store.tables import Project, ProjectState
from tests.conftest import new_deployment


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """Project 1, of which Label Studio says that it does not exist."""

    def not_found(*_: Any) -> NoReturn:
        raise ProjectNotFound("There is no project 1.")

    monkeypatch.setattr(LabelStudio, "project", not_found)
    made = new_deployment(tmp_path)
    with made.database.write() as session:
        session.add(Project(id=1, state=ProjectState.ACTIVE))
    return made


def state(deployment: Deployment) -> str:
    with deployment.database.read() as session:
        return session.get_one(Project, 1).state


def test_a_project_that_is_in_no_list_either_is_gone(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LabelStudio, "projects", lambda _: [])
    notice_missed_changes(deployment, 1)
    assert state(deployment) == ProjectState.GONE


def test_a_proxy_before_a_label_studio_that_is_down_says_not_found_too(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(_: LabelStudio) -> NoReturn:
        raise LabelStudioUnavailable("404")

    monkeypatch.setattr(LabelStudio, "projects", down)
    notice_missed_changes(deployment, 1)
    assert state(deployment) == ProjectState.ACTIVE
