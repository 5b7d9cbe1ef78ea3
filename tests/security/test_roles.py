"""Who may look and who may change."""

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from backend.settings import Settings
from backend.store.tables import Project
from tests.dashboard.stored_loop import StoredLoop

LEAD, VIEWER = ("lead", "l"), ("viewer", "v")


@pytest.fixture
def loop(tmp_path: Path) -> StoredLoop:
    passwords = {"basic_auth_pass": SecretStr("l"), "viewer_pass": SecretStr("v")}
    return StoredLoop(tmp_path, basic_auth_user="lead", viewer_user="viewer", **passwords)


def test_a_viewer_sees_pages_without_buttons_and_changes_nothing(loop: StoredLoop) -> None:
    for path in ("/", "/projects/3", "/projects/3/rounds", "/projects/3/settings", "/metrics"):
        seen = loop.client.get(path, auth=VIEWER)
        assert seen.status_code == 200
        assert 'method="post" action="/projects/3/pause"' not in seen.text and ">Save<" not in seen.text
    assert "Pause the loop" in loop.client.get("/projects/3", auth=LEAD).text
    assert loop.client.post("/projects/3/pause", auth=VIEWER).status_code == 403
    with loop.database.read() as session:
        assert not session.get_one(Project, 3).paused
    assert loop.client.post("/projects/3/pause", auth=LEAD).status_code == 303


def test_a_viewer_does_not_pass_for_label_studio(loop: StoredLoop) -> None:
    for route in ("/setup", "/predict"):
        assert loop.client.post(route, json={}, auth=VIEWER).status_code == 401
    assert loop.client.get("/versions", auth=VIEWER).status_code == 401
    event = {"action": "START_TRAINING", "project": {"id": 3}}
    assert loop.client.post("/webhook", json=event, auth=VIEWER).status_code == 401


def test_a_large_body_is_read_only_of_who_may_send_one(loop: StoredLoop) -> None:
    large = b" " * (5 << 20) + b"{}"
    assert loop.client.post("/webhook", data=large).status_code == 413
    assert loop.client.post("/webhook", data=large, auth=LEAD).status_code == 400  # read, and found lacking
    assert loop.client.post("/setup", data=large, auth=LEAD).status_code == 413


def test_a_viewer_needs_a_lead() -> None:
    with pytest.raises(ValidationError, match="needs BASIC_AUTH_USER"):
        Settings(_env_file=None, viewer_user="viewer", viewer_pass=SecretStr("v"))  # type: ignore[call-arg]
