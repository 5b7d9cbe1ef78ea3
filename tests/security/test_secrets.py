"""No secret is told: not on a page, in an answer, a metric, a file to download, the log, or what the doctor finds."""

import base64
import logging
from pathlib import Path

import pytest
from pydantic import SecretStr

from backend.store.tables import Project, Round, Task
from tests.dashboard.stored_loop import CONFIG, StoredLoop
from tests.security.made_up_secrets import SECRETS, told

IMAGE = "http://someone:S3CRET-user@127.0.0.1:9/a.png?signature=S3CRET-signature"


@pytest.fixture
def loop(tmp_path: Path) -> StoredLoop:
    loop = StoredLoop(
        tmp_path,
        basic_auth_user="lead",
        basic_auth_pass=SecretStr(SECRETS["password"]),
        viewer_user="viewer",
        viewer_pass=SecretStr(SECRETS["viewer's password"]),
    )
    loop.settings.label_studio_api_key = SecretStr(SECRETS["api key"])
    loop.change(Project, 3, webhook_secret=SECRETS["webhook"])
    for task_id in (1, 21):
        loop.change(Task, (3, task_id), source=IMAGE)
    return loop


def test_no_answer_and_no_log_tells_a_secret(loop: StoredLoop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    given = base64.b64encode(f"lead:{SECRETS['password']}".encode()).decode()
    headers = {"Authorization": f"Basic {given}"}
    rules = [rule for rule in loop.client.application.url_map.iter_rules() if rule.endpoint != "static"]
    bodies = {
        "/setup": {"project": "3.0", "schema": CONFIG, "extra_params": {"strategy": "bogus"}},
        "/predict": {
            "project": "3.0",
            "label_config": CONFIG,
            "tasks": [{"id": 21, "data": {"image": IMAGE}}, {"id": "x"}],
        },
        "/webhook": {"action": "ANNOTATION_CREATED", "project": {"id": 3}, "task": {"id": 21}},
    }
    answered = set()
    for rule in rules:
        path = rule.rule.replace("<path:filename>", "style.css")
        for name, value in (("project_id", 3), ("task_id", 21), ("number", 1)):
            path = path.replace(f"<int:{name}>", str(value))
        assert "<" not in path, rule
        for method in (rule.methods or set()) & {"GET", "POST"}:
            for sent in (headers, {}, {"Authorization": f"Basic {given[:-6]}"}):
                answer = loop.client.open(path, method=method, headers=sent, json=bodies.get(path))
                assert told(answer.text + str(answer.headers) + answer.status) == [], (method, path)
                answered.add(answer.status_code)
    assert {200, 303, 400, 401, 404} <= answered  # errors were provoked as well
    assert caplog.records
    assert told(caplog.text) == []


def test_the_reasons_of_failed_rounds_and_broken_images_tell_none(loop: StoredLoop) -> None:
    reason = loop.client.get(
        "/projects/3/tasks/21/thumbnail",
        headers={
            "Authorization": "Basic " + base64.b64encode(f"lead:{SECRETS['password']}".encode()).decode()
        },
    )
    assert reason.status_code in (404, 502)
    assert "127.0.0.1" in reason.text
    assert told(reason.text) == []


def test_settings_and_rows_do_not_show_them_when_printed(loop: StoredLoop) -> None:
    settings = loop.settings.model_copy(
        update={
            "redis_url": f"redis://:{SECRETS['redis']}@127.0.0.1:9/0",
            "database_url": f"postgresql://u:{SECRETS['database']}@127.0.0.1:9/x",
        }
    )
    with loop.database.read() as session:
        rows = [session.get(Project, 3), session.get(Task, (3, 21)), session.query(Round).first()]
    assert told(repr(settings) + str(settings) + repr(rows)) == []
