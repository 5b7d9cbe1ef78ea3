"""The routes without a Label Studio behind them: what they take, refuse and remember."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import select, update

from backend.app import create_app
from backend.loop.events import SECRET_HEADER
from backend.settings import Settings
from backend.store.database import Database
from backend.store.tables import Event, Project, ProjectState, Task

CONFIG = """<View><Image name="image" value="$image"/>
<Choices name="kind" toName="image"><Choice value="cat"/><Choice value="dog"/></Choices></View>"""
SETUP = {"project": "3.1760000000.5", "schema": CONFIG, "extra_params": None, "hostname": "http://localhost"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(model_dir=tmp_path, label_studio_api_key=SecretStr("a-key"))


@pytest.fixture
def client(settings: Settings) -> Iterator[FlaskClient]:
    with create_app(settings).test_client() as client:
        yield client


@pytest.fixture
def database(settings: Settings) -> Database:
    return Database(settings.state_url)


@pytest.fixture
def secret(client: FlaskClient, database: Database) -> str:
    """The webhook secret of project 3, whose loop is active and which holds tasks 1 to 5."""
    assert client.post("/setup", json=SETUP).status_code == 200
    with database.write() as session:
        session.execute(update(Project).values(state=ProjectState.ACTIVE, label_config=CONFIG))
        session.add_all(Task(project_id=3, id=task_id, source=f"{task_id}.png") for task_id in range(1, 6))
        return str(session.scalar(select(Project.webhook_secret)))


def webhook(client: FlaskClient, action: str, secret: str | None = None, **payload: Any) -> Any:
    headers = {SECRET_HEADER: secret} if secret else {}
    body = {"action": action, "project": {"id": 3, "label_config": CONFIG}, **payload}
    return client.post("/webhook", json=body, headers=headers)


def events(database: Database) -> list[Event]:
    with database.read() as session:
        return list(session.scalars(select(Event).order_by(Event.id)))


def test_health(client: FlaskClient) -> None:
    response = client.get("/health")
    assert response.status_code == 200
    assert response.json == {"status": "UP", "model_class": "ActiveLearning"}


def test_setup_remembers_a_project_to_adopt(client: FlaskClient, database: Database) -> None:
    response = client.post("/setup", json=SETUP, base_url="http://backend.example:9090")
    assert response.json == {"model_version": "active-learning"}
    with database.read() as session:
        project = session.get_one(Project, 3)
    assert project.state == ProjectState.CONNECTING
    assert project.created == 1760000000
    assert project.backend_url == "http://backend.example:9090"
    assert len(project.webhook_secret) > 30


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"project": "three"}, "Field project"),
        ({"project": None}, "Field project"),
        ({"schema": None}, "Field schema"),
        ({"schema": "<View><Image"}, "labeling config"),
        ({"schema": "<View><Text name='t' value='$t'/></View>"}, "Image"),
        ({"extra_params": '{"strategy": '}, "not JSON"),
        ({"extra_params": [1]}, "extra_params"),
        ({"extra_params": {"strategy": "margni"}}, "margin"),
        ({"extra_params": {"stratgy": "margin"}}, "unknown setting 'stratgy'"),
        ({"extra_params": {"labels_per_round": 0}}, "labels_per_round"),
    ],
)
def test_setup_says_what_is_wrong_in_the_reason_phrase(
    client: FlaskClient, database: Database, change: dict[str, Any], told: str
) -> None:
    response = client.post("/setup", json=SETUP | change)
    assert response.status_code == 400
    assert told in response.status
    assert response.json is not None
    assert told in response.json["error"]
    with database.read() as session:
        assert session.get(Project, 3) is None


def test_extra_params_may_be_text(client: FlaskClient, database: Database) -> None:
    assert client.post("/setup", json=SETUP | {"extra_params": '{"strategy": "margin"}'}).status_code == 200
    with database.read() as session:
        assert session.get_one(Project, 3).extra_params == {"strategy": "margin"}


def test_the_labeling_config_wins_over_extra_params(client: FlaskClient) -> None:
    config = CONFIG.replace("<Choices ", '<Choices model_strategy="margni" ')
    response = client.post("/setup", json=SETUP | {"schema": config, "extra_params": {"strategy": "margin"}})
    assert response.status_code == 400
    assert "margni" in response.status


def test_setup_without_an_api_key_tells_how_to_get_one(tmp_path: Path) -> None:
    with create_app(Settings(model_dir=tmp_path, label_studio_api_key=SecretStr(""))).test_client() as client:
        response = client.post("/setup", json=SETUP)
    assert response.status_code == 400
    assert "LABEL_STUDIO_API_KEY" in response.status


@pytest.mark.parametrize("told", ["3.1770000000", "3"])
@pytest.mark.parametrize("state", [ProjectState.ACTIVE, ProjectState.DISCONNECTED, ProjectState.GONE])
def test_nobody_deletes_a_project_by_telling_of_another_one(
    client: FlaskClient, database: Database, secret: str, told: str, state: ProjectState
) -> None:
    """As another server's project of that number would; a worker asks Label Studio which is right."""
    with database.write() as session:
        session.execute(update(Project).values(state=state, restore={"sampling": "Sequential sampling"}))
    assert client.post("/setup", json=SETUP | {"project": told}).status_code == 200
    with database.read() as session:
        project = session.get_one(Project, 3)
        assert (project.created, project.restore) == (1760000000, {"sampling": "Sequential sampling"})
        assert project.state == (
            ProjectState.ACTIVE if state == ProjectState.ACTIVE else ProjectState.CONNECTING
        )
        assert len(session.scalars(select(Task)).all()) == 5


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://elsewhere.example"}]
)
@pytest.mark.parametrize("route", ["/setup", "/predict", "/webhook"])
def test_another_site_cannot_have_a_browser_call(
    client: FlaskClient, database: Database, route: str, headers: dict[str, str]
) -> None:
    """A form can send JSON as plain text, and the browser adds the user and password of the dashboard."""
    answer = client.post(route, data=json.dumps(SETUP), content_type="text/plain", headers=headers)
    assert answer.status_code == 403
    with database.read() as session:
        assert session.get(Project, 3) is None


def test_changed_extra_params_and_config_become_events_once(
    client: FlaskClient, database: Database, secret: str
) -> None:
    for _ in range(2):
        client.post("/setup", json=SETUP | {"extra_params": {"strategy": "entropy"}})
    assert [event.action for event in events(database)] == ["SETTINGS_CHANGED"]
    client.post("/setup", json=SETUP | {"schema": CONFIG.replace("dog", "fox")})
    assert "PROJECT_UPDATED" in [event.action for event in events(database)]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"null", b"\xff\xfe", b"9" * 5000])
@pytest.mark.parametrize("route", ["/setup", "/predict", "/webhook"])
def test_a_body_that_is_no_json_object_is_refused(client: FlaskClient, route: str, body: bytes) -> None:
    response = client.post(route, data=body, content_type="application/json")
    assert response.status_code == 400
    assert "JSON object" in response.status


def test_a_webhook_needs_the_secret(client: FlaskClient, database: Database, secret: str) -> None:
    for given in (None, "wrong", secret[:-1]):
        assert webhook(client, "ANNOTATION_CREATED", given, task={"id": 1}).status_code == 401
    assert events(database) == []
    assert webhook(client, "ANNOTATION_CREATED", secret, task={"id": 1}).json == {"status": "recorded"}
    assert [(e.action, e.task_ids) for e in events(database)] == [("ANNOTATION_CREATED", [1])]


def test_events_name_their_tasks(client: FlaskClient, database: Database, secret: str) -> None:
    webhook(client, "ANNOTATIONS_CREATED", secret, task=[{"id": 1}, {"id": 2}], annotation=[{}, {}])
    webhook(client, "TASKS_DELETED", secret, tasks=[{"id": 4}])
    webhook(client, "ANNOTATIONS_DELETED", secret, annotations=[{"id": 116}])
    assert [e.task_ids for e in events(database)] == [[1, 2], [4], []]
    with database.read() as session:
        assert session.scalars(select(Task.id).where(Task.touched)).all() == [1, 2, 4]


@pytest.mark.parametrize("task", [None, 5, "x", {"id": "5"}, [{"id": None}, 7], {}])
def test_a_strange_payload_is_still_a_hint(
    client: FlaskClient, database: Database, secret: str, task: Any
) -> None:
    assert webhook(client, "ANNOTATION_CREATED", secret, task=task).status_code == 200
    assert [e.task_ids for e in events(database)] == [[]]


def test_our_own_changes_to_the_project_are_no_events(
    client: FlaskClient, database: Database, secret: str
) -> None:
    assert webhook(client, "PROJECT_UPDATED", secret).json == {"status": "ignored"}
    assert webhook(client, "SOMETHING_NEW", secret).json == {"status": "ignored"}
    assert events(database) == []
    changed = {"id": 3, "label_config": CONFIG.replace("dog", "fox")}
    assert webhook(client, "PROJECT_UPDATED", secret, project=changed).json == {"status": "recorded"}


def test_start_training_comes_without_the_secret(
    client: FlaskClient, database: Database, secret: str
) -> None:
    assert webhook(client, "START_TRAINING").json == {"status": "recorded"}
    assert [e.action for e in events(database)] == ["START_TRAINING"]


def test_predict_answers_one_result_a_task(client: FlaskClient) -> None:
    tasks = [{"id": number, "data": {"image": "/nowhere.png"}} for number in range(5_000)]
    response = client.post("/predict", json={"project": "3.1", "label_config": CONFIG, "tasks": tasks})
    assert response.status_code == 200
    assert response.json is not None
    assert len(response.json["results"]) == 5_000
    for result in response.json["results"]:
        assert result == {"result": [], "score": 0.5, "model_version": "active-learning"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"tasks": "x"}, "Field tasks"),
        ({"tasks": [{}]}, "Field tasks.0.id"),
        ({"tasks": [None]}, "Field tasks.0"),
        ({"tasks": None}, "Field tasks"),
        ({"label_config": 7}, "Field label_config"),
        ({"project": []}, "Field project"),
    ],
)
def test_predict_says_what_is_wrong(client: FlaskClient, change: dict[str, Any], told: str) -> None:
    body = {"project": "3.1", "label_config": CONFIG, "tasks": [{"id": 1, "data": {}}]}
    response = client.post("/predict", json=body | change)
    assert response.status_code == 400
    assert told in response.status


def test_versions_and_is_training(client: FlaskClient) -> None:
    assert client.get("/versions").json == {"versions": []}
    assert client.get("/is_training").json == {"is_training": False}


def test_an_unknown_route_is_told_so(client: FlaskClient) -> None:
    response = client.get("/nothing")
    assert response.status_code == 404
    assert response.json is not None
    assert "error" in response.json


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[FlaskClient]:
    settings = Settings(
        model_dir=tmp_path,
        label_studio_api_key=SecretStr("a-key"),
        basic_auth_user="studio",
        basic_auth_pass=SecretStr("pässword"),
    )
    with create_app(settings).test_client() as client:
        yield client


@pytest.mark.parametrize("credentials", [None, "studio:wrong", "other:pässword", "studio:", ":", "studio"])
def test_basic_auth_guards_all_but_health(guarded: FlaskClient, credentials: str | None) -> None:
    headers = {}
    if credentials is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(credentials.encode()).decode()
    assert guarded.get("/health", headers=headers).status_code == 200
    for route in ("/setup", "/predict"):
        response = guarded.post(route, json=SETUP, headers=headers)
        assert response.status_code == 401
        assert "BASIC_AUTH_USER" in response.status
    for route in ("/versions", "/is_training"):
        assert guarded.get(route, headers=headers).status_code == 401
    assert webhook(guarded, "START_TRAINING").status_code == 401
    assert webhook(guarded, "ANNOTATION_CREATED").status_code == 401


def test_basic_auth_lets_in(guarded: FlaskClient) -> None:
    headers = {"Authorization": "Basic " + base64.b64encode("studio:pässword".encode()).decode()}
    assert guarded.post("/setup", json=SETUP, headers=headers).status_code == 200


def test_an_unforeseen_error_shows_no_traceback(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("the secret is hunter2")

    monkeypatch.setattr("backend.protocol.answer", fail)
    response = client.post(
        "/predict", json={"project": "3.1", "label_config": CONFIG, "tasks": [{"id": 1, "data": {}}]}
    )
    assert response.status_code == 500
    assert "hunter2" not in response.text
    assert "Traceback" not in response.text
    assert "log" in response.status
