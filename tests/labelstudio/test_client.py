"""The client against a real Label Studio; where that cannot be made to fail in a certain way, a server that does."""

import base64
import json
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import label_studio_sdk
import pytest

from backend.demo.label_studio import LabelStudioServer
from backend.labelstudio import client as client_module
from backend.labelstudio.client import (
    BATCHED_IMPORT,
    AccessDenied,
    AddressRefused,
    LabelStudio,
    LabelStudioError,
    LabelStudioUnavailable,
    PredictionsRefused,
    ProjectNotFound,
    RequestRefused,
)
from tests.conftest import LABEL_CONFIG, DigitsProject, choice, make_digits_project

NO_PROJECT = 2_000_000_000
MakeProject = Callable[..., DigitsProject]


@pytest.fixture
def sdk(label_studio: LabelStudioServer) -> label_studio_sdk.LabelStudio:
    """What people and other programs do on the server."""
    return label_studio_sdk.LabelStudio(base_url=label_studio.url, api_key=label_studio.api_key)


@pytest.fixture(scope="module")
def other_label_studio(
    prepared_directory: Path, local_files: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabelStudioServer]:
    """One that imports in batches, as docker-compose.yml starts it; a test may kill it and start it again."""
    directory = tmp_path_factory.mktemp("other-label-studio") / "data"
    shutil.copytree(prepared_directory, directory)
    with LabelStudioServer(directory, local_files=local_files, settings={BATCHED_IMPORT: "true"}) as server:
        yield server


@contextmanager
def http_server(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A local server that answers every request by this function; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def reply(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content_Type": "application/json", **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def body_of(handler: BaseHTTPRequestHandler) -> bytes:
    return handler.rfile.read(int(handler.headers.get("Content-Length", 0)))


def predictions(project: DigitsProject, model_version: str) -> list[dict[str, Any]]:
    return [
        {"task": task, "result": choice(digit), "score": rank / 1000, "model_version": model_version}
        for rank, (task, digit) in enumerate(project.digits.items())
    ]


# Projects


def test_a_project_tells_its_settings_and_counts(
    client: LabelStudio, make_project: MakeProject, sdk: label_studio_sdk.LabelStudio
) -> None:
    before = datetime.now(UTC)
    made = make_project(3, title="Three digits", maximum_annotations=2)
    sdk.annotations.create(min(made.digits), result=choice(0))
    project = client.project(made.id)
    assert (project.id, project.title, project.label_config) == (made.id, "Three digits", LABEL_CONFIG)
    assert (project.task_count, project.annotated_count, project.annotations_per_task) == (3, 1, 2)
    assert project.model_version is None
    assert project.show_predictions
    assert before <= project.created_at <= datetime.now(UTC)
    assert project in client.projects()


def test_sampling_is_set(client: LabelStudio, make_project: MakeProject) -> None:
    project = make_project(1).id
    client.set_sampling(project, "Uncertainty sampling")
    assert client.project(project).sampling == "Uncertainty sampling"
    with pytest.raises(RequestRefused, match="not a valid choice"):
        client.set_sampling(project, "by astrology")
    assert client.project(project).sampling == "Uncertainty sampling"


# Tasks


def test_tasks_come_complete_and_in_order_over_several_pages(
    client: LabelStudio,
    make_project: MakeProject,
    sdk: label_studio_sdk.LabelStudio,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "PAGE_SIZE", 3)
    monkeypatch.setattr(client_module, "IDS_PAGE_SIZE", 4)
    project = make_project(10)
    ids = list(project.digits)
    done = sdk.annotations.create(ids[4], result=choice(4), ground_truth=True)
    sdk.annotations.create(ids[5], result=[], was_cancelled=True)
    sdk.tasks.update(id=str(ids[6]), meta={"site": {"name": "A"}})

    tasks = list(client.tasks(project.id))
    assert [task.id for task in tasks] == ids
    assert client.task_ids(project.id) == set(ids)
    assert tasks[0].data == {"image": f"/data/local-files/?d={project.images.name}/0000.png"}
    assert tasks[0].annotations == []
    assert not tasks[0].is_labeled
    annotation = tasks[4].annotations[0]
    assert (annotation["id"], annotation["result"]) == (done.id, choice(4))
    assert annotation["ground_truth"]
    assert annotation["completed_by"] == sdk.users.whoami().id
    assert datetime.fromisoformat(annotation["updated_at"]) <= tasks[4].updated_at
    assert tasks[4].is_labeled
    assert tasks[5].annotations[0]["was_cancelled"]
    assert not tasks[5].is_labeled
    assert tasks[6].meta == {"site": {"name": "A"}}


def test_no_task_is_missed_while_others_are_labeled_deleted_and_added(
    client: LabelStudio,
    make_project: MakeProject,
    sdk: label_studio_sdk.LabelStudio,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "PAGE_SIZE", 4)
    project = make_project(12)
    ids = list(project.digits)
    tasks = client.tasks(project.id)
    seen = [next(tasks).id]
    sdk.tasks.delete(id=str(ids[0]))
    sdk.tasks.delete(id=str(ids[1]))
    sdk.tasks.delete(id=str(ids[9]))
    sdk.annotations.create(ids[6], result=choice(6))
    sdk.projects.import_tasks(id=project.id, request=[{"image": "http://example.com/late.png"}])
    seen += [task.id for task in tasks]
    assert seen[: len(ids) - 1] == [*ids[:9], *ids[10:]]
    assert len(seen) == len(set(seen)) == len(ids)


def test_an_empty_project_has_no_tasks(client: LabelStudio, make_project: MakeProject) -> None:
    project = make_project(0).id
    assert list(client.tasks(project)) == []
    assert client.task_ids(project) == set()
    assert client.latest_change(project) is None


CHANGES: dict[str, Callable[[label_studio_sdk.LabelStudio, int, int], object]] = {
    "annotation created": lambda sdk, task, _: sdk.annotations.create(task, result=choice(1)),
    "annotation updated": lambda sdk, _, annotation: sdk.annotations.update(annotation, result=choice(2)),
    "annotation deleted": lambda sdk, _, annotation: sdk.annotations.delete(annotation),
    "task skipped": lambda sdk, task, _: sdk.annotations.create(task, result=[], was_cancelled=True),
    "annotation made a draft": lambda sdk, _, annotation: sdk._client_wrapper.httpx_client.request(
        f"api/annotations/{annotation}/convert-to-draft", method="POST", json={}
    ),
    "data changed": lambda sdk, task, _: sdk.tasks.update(
        id=str(task), data={"image": "http://example.com/"}
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_every_change_of_a_task_is_found_by_its_time(
    client: LabelStudio,
    make_project: MakeProject,
    sdk: label_studio_sdk.LabelStudio,
    change: Callable[[label_studio_sdk.LabelStudio, int, int], object],
) -> None:
    project = make_project(5)
    ids = list(project.digits)
    annotation = sdk.annotations.create(ids[2], result=choice(7))
    since = client.latest_change(project.id)
    assert since is not None
    changed_before = {task.id: task.updated_at for task in client.tasks(project.id, changed_since=since)}
    assert list(changed_before) == [ids[2]]  # "since" includes that moment
    change(sdk, ids[2], annotation.id)
    changed = {task.id: task.updated_at for task in client.tasks(project.id, changed_since=since)}
    assert list(changed) == [ids[2]]
    assert changed[ids[2]] > since


def test_tasks_by_id_gives_those_that_exist(
    client: LabelStudio, make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "IDS_PER_QUERY", 2)
    project = make_project(5)
    ids = list(project.digits)
    other_project = make_project(1)
    asked = [ids[3], ids[0], NO_PROJECT, ids[1], min(other_project.digits)]
    assert {task.id for task in client.tasks_by_id(project.id, asked)} == {ids[0], ids[1], ids[3]}
    assert list(client.tasks_by_id(project.id, [])) == []


# Predictions and the queue


def test_predictions_are_imported_counted_and_deleted(client: LabelStudio, make_project: MakeProject) -> None:
    project = make_project(4)
    assert client.import_predictions(project.id, []) == 0
    assert client.import_predictions(project.id, predictions(project, "one")) == 4
    assert client.import_predictions(project.id, predictions(project, "two")[:3]) == 3
    assert client.model_versions(project.id) == {"one": 4, "two": 3}
    client.set_model_version(project.id, "two")
    assert client.delete_predictions(project.id, "one") == 4
    assert client.project(project.id).model_version == "two"
    assert client.delete_predictions(project.id, "one") == 0
    assert client.delete_predictions(project.id, "two") == 3
    assert client.project(project.id).model_version is None
    assert client.model_versions(project.id) == {}


def test_invalid_predictions_show_in_the_count(client: LabelStudio, make_project: MakeProject) -> None:
    project = make_project(3)
    sent = predictions(project, "one")
    sent[1]["score"] = 1.5
    assert client.import_predictions(project.id, sent) == 2


def test_predictions_of_a_deleted_task_are_refused_by_name(
    client: LabelStudio, make_project: MakeProject, sdk: label_studio_sdk.LabelStudio
) -> None:
    project = make_project(4)
    gone = list(project.digits)[1:3]
    for task in gone:
        sdk.tasks.delete(id=str(task))
    with pytest.raises(
        PredictionsRefused, match=f"2 of their tasks do not exist.* task {gone[0]} "
    ) as refused:
        client.import_predictions(project.id, predictions(project, "one"))
    assert refused.value.task_ids == set(gone)
    assert client.model_versions(project.id) == {}


def test_an_import_in_batches_stores_all_or_nothing_and_checks_none(
    other_label_studio: LabelStudioServer, local_files: Path
) -> None:
    """Imports then do not go through all tasks of the project."""
    server = other_label_studio
    client, project = LabelStudio(server.url, server.api_key), make_digits_project(server, local_files, 4)
    sent = predictions(project, "one")
    sent[1]["score"] = 1.5
    assert client.import_predictions(project.id, sent) == 4
    client.set_model_version(project.id, "one")
    gone = max(project.digits)
    label_studio_sdk.LabelStudio(base_url=server.url, api_key=server.api_key).tasks.delete(id=str(gone))
    with pytest.raises(PredictionsRefused) as refused:
        client.import_predictions(project.id, predictions(project, "two"))
    assert refused.value.task_ids == {gone}
    assert client.model_versions(project.id) == {"one": 3}


def test_a_version_without_predictions_cannot_order_the_queue(
    client: LabelStudio, make_project: MakeProject
) -> None:
    project = make_project(2)
    client.import_predictions(project.id, predictions(project, "one"))
    client.set_model_version(project.id, "one")
    with pytest.raises(RequestRefused, match="doesn't exist"):
        client.set_model_version(project.id, "two")
    assert client.project(project.id).model_version == "one"
    client.set_model_version(project.id, "")
    assert client.project(project.id).model_version is None


def test_three_annotators_get_the_published_order(
    client: LabelStudio,
    make_project: MakeProject,
    new_annotator: Callable[[], str],
    label_studio: LabelStudioServer,
) -> None:
    """What the loop builds on: lowest score first, each the best task that no other has before them."""
    project = make_project(12, sampling="Uncertainty sampling")
    order = list(reversed(project.digits))
    ranked = [{"task": task, "result": [], "model_version": "one"} for task in order]
    client.import_predictions(
        project.id, [{**prediction, "score": rank / 100} for rank, prediction in enumerate(ranked)]
    )
    client.set_model_version(project.id, "one")

    annotators = [httpx.Client(base_url=label_studio.url, timeout=30) for _ in range(3)]
    for http, key in zip(annotators, [label_studio.api_key, new_annotator(), new_annotator()], strict=True):
        http.headers["Authorization"] = LabelStudio(label_studio.url, key).authorization()
    served = []
    holds: dict[int, int] = {}
    for who in [0, 1, 2, 1, 1, 0, 2, 2, 0, 1, 0, 2]:
        if who in holds:
            submitted = {"result": choice(0)}
            annotators[who].post(f"/api/tasks/{holds[who]}/annotations/", json=submitted).raise_for_status()
        holds[who] = annotators[who].get(f"/api/projects/{project.id}/next").raise_for_status().json()["id"]
        served.append(holds[who])
    assert served == order


# ML backends and webhooks


def test_a_backend_is_connected_and_disconnected(client: LabelStudio, make_project: MakeProject) -> None:
    requests: list[tuple[str, str | None, Any]] = []

    def ml_backend(handler: BaseHTTPRequestHandler) -> None:
        body = body_of(handler)
        requests.append((handler.path, handler.headers["Authorization"], json.loads(body) if body else None))
        reply(handler, 200, b'{"status": "UP", "model_version": "one"}')

    project = make_project(1).id
    with http_server(ml_backend) as url:
        made = client.add_backend(project, url, "active learning", ("loop", "secret"), {"strategy": "margin"})
        assert client.backends(project) == [made]
        assert (made.url, made.title, made.state) == (url, "active learning", "CO")
        assert made.extra_params == {"strategy": "margin"}
        assert [webhook.url for webhook in client.webhooks(project)] == [f"{url}/webhook"]
        assert client.project(project).model_version == "active learning"
        setup = next(body for path, _, body in requests if path == "/setup")
        assert setup["extra_params"] == {"strategy": "margin"}
        assert {authorization for _, authorization, _ in requests} == {
            httpx.BasicAuth("loop", "secret")._auth_header
        }
        client.delete_backend(made.id)
        assert client.backends(project) == []


def test_a_backend_that_does_not_answer_is_not_connected(
    client: LabelStudio, make_project: MakeProject
) -> None:
    project = make_project(1).id
    with http_server(lambda handler: reply(handler, 200, b"{}")) as url:
        pass  # nobody listens there any more
    with pytest.raises(RequestRefused, match="health check failed") as refused:
        client.add_backend(project, url, "active learning", ("loop", "secret"))
    assert "<a" not in str(refused.value)
    assert client.backends(project) == []


def test_a_webhook_is_created_and_deleted(client: LabelStudio, make_project: MakeProject) -> None:
    project, other = make_project(1).id, make_project(1).id
    actions = ["ANNOTATION_CREATED", "ANNOTATIONS_DELETED"]
    made = client.create_webhook(project, "http://127.0.0.1:9/webhook", {"X-Secret": "tiger"}, actions)
    assert client.webhooks(project) == [made]
    assert client.webhooks(other) == []
    assert made.headers == {"X-Secret": "tiger"}
    assert sorted(made.actions) == sorted(actions)
    assert made.is_active
    assert not made.send_for_all_actions
    assert "tiger" not in repr(made)
    client.delete_webhook(made.id)
    assert client.webhooks(project) == []


def test_a_refused_webhook_does_not_tell_its_secret(client: LabelStudio, make_project: MakeProject) -> None:
    with pytest.raises(RequestRefused) as refused:
        client.create_webhook(make_project(1).id, "http://127.0.0.1:9/", {"not a header": "tiger"}, [])
    assert "tiger" not in str(refused.value)


@pytest.mark.parametrize("half_open", [False, True])
def test_a_private_address_is_refused_with_the_remedy(
    start_label_studio: Callable[..., LabelStudioServer], half_open: bool
) -> None:
    """With one of its two protections off, Label Studio refuses, too, but connects the backend by half."""
    server = start_label_studio(
        settings={
            "LABEL_STUDIO_ML_BLOCK_LOCAL_IP": "false" if half_open else "true",
            "LABEL_STUDIO_SSRF_PROTECTION_ENABLED": "true",
        }
    )
    sdk = label_studio_sdk.LabelStudio(base_url=server.url, api_key=server.api_key)
    project = sdk.projects.create(title="Private", label_config=LABEL_CONFIG).id
    client = LabelStudio(server.url, server.api_key)
    with http_server(lambda handler: reply(handler, 200, b"{}")) as url:
        for call in (
            lambda: client.add_backend(project, url, "active learning"),
            lambda: client.create_webhook(project, f"{url}/webhook", {}, ["ANNOTATION_CREATED"]),
        ):
            with pytest.raises(AddressRefused) as refused:
                call()
            assert "LABEL_STUDIO_ML_BLOCK_LOCAL_IP=false" in str(refused.value)
            assert "LABEL_STUDIO_SSRF_PROTECTION_ENABLED=false" in str(refused.value)
        assert client.backends(project) == []
        assert client.webhooks(project) == []


def test_an_unknown_host_name_is_an_address_refused(client: LabelStudio, make_project: MakeProject) -> None:
    with pytest.raises(AddressRefused, match="host name is unknown"):
        client.add_backend(make_project(1).id, "http://nowhere.invalid:9090", "active learning")


# Access


def test_media_are_fetched_with_the_access_token(
    client: LabelStudio, label_studio: LabelStudioServer, make_project: MakeProject
) -> None:
    project = make_project(1)
    image = label_studio.url + next(client.tasks(project.id)).data["image"]
    assert httpx.get(image).status_code == 401
    fetched = httpx.get(image, headers={"Authorization": f"Bearer {client.access_token()}"})
    assert fetched.content == (project.images / "0000.png").read_bytes()
    assert httpx.get(image, headers={"Authorization": client.authorization()}).is_success


def test_an_unknown_project_is_named(client: LabelStudio) -> None:
    calls: list[Callable[[], object]] = [
        lambda: client.project(NO_PROJECT),
        lambda: list(client.tasks(NO_PROJECT)),
        lambda: list(client.tasks_by_id(NO_PROJECT, [1])),
        lambda: client.task_ids(NO_PROJECT),
        lambda: client.latest_change(NO_PROJECT),
        lambda: client.import_predictions(NO_PROJECT, [{"task": 1, "result": []}]),
        lambda: client.model_versions(NO_PROJECT),
        lambda: client.delete_predictions(NO_PROJECT, "one"),
        lambda: client.set_model_version(NO_PROJECT, ""),
        lambda: client.set_sampling(NO_PROJECT, "Uniform sampling"),
        lambda: client.backends(NO_PROJECT),
        lambda: client.add_backend(NO_PROJECT, "http://127.0.0.1:9", "active learning"),
    ]
    for call in calls:
        with pytest.raises(ProjectNotFound, match=f"no project {NO_PROJECT}"):
            call()
    assert client.webhooks(NO_PROJECT) == []


def test_what_was_deleted_is_not_found(client: LabelStudio) -> None:
    for call in (client.delete_backend, client.delete_webhook):
        with pytest.raises(ProjectNotFound, match=str(NO_PROJECT)):
            call(NO_PROJECT)


def test_a_wrong_key_is_denied_and_not_told(label_studio: LabelStudioServer, client: LabelStudio) -> None:
    good = label_studio.api_key
    for key in ["legacy0123456789", good[:-4] + "AAAA", client.access_token()]:
        with pytest.raises(AccessDenied, match="Personal Access Token") as denied:
            LabelStudio(label_studio.url, key).projects()
        assert key not in "".join(traceback.format_exception(denied.value))
    expired = "eyJhbGciOiJub25lIn0.eyJleHAiOjF9.AAAA"  # {"alg":"none"} {"exp":1}
    for key in ["", " \n", "two words", "clé", expired]:
        with pytest.raises(AccessDenied, match="Personal Access Token") as denied:
            LabelStudio(label_studio.url, key)
        assert not key.strip() or key not in "".join(traceback.format_exception(denied.value))
    assert LabelStudio(f" {label_studio.url}/ ", f"{good}\n").projects() == client.projects()
    assert good not in repr(client)
    assert good not in str(vars(client))


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://example.com", "http://"])
def test_what_is_not_a_url_is_told_at_once(url: str) -> None:
    with pytest.raises(LabelStudioError, match="LABEL_STUDIO_URL"):
        LabelStudio(url, "key")


def test_a_password_in_the_url_is_refused_and_not_told() -> None:
    with pytest.raises(LabelStudioError, match="LABEL_STUDIO_API_KEY") as refused:
        LabelStudio("http://user:tiger@example.com", "key")
    assert "tiger" not in str(refused.value)


def test_a_server_under_a_path(label_studio: LabelStudioServer, make_project: MakeProject) -> None:
    project = make_project(2)

    def forward(handler: BaseHTTPRequestHandler) -> None:
        prefix, _, path = handler.path.partition("/label-studio/")
        if prefix or not path:
            return reply(handler, 404, b"<html>nothing here</html>", Content_Type="text/html")
        headers = {name: value for name, value in handler.headers.items() if name != "Host"}
        url = f"{label_studio.url}/{path}"
        answer = httpx.request(handler.command, url, headers=headers, content=body_of(handler), timeout=30)
        return reply(handler, answer.status_code, answer.content, Content_Type=answer.headers["Content-Type"])

    with http_server(forward) as url:
        client = LabelStudio(f"{url}/label-studio", label_studio.api_key)
        assert client.task_ids(project.id) == set(project.digits)
        client.set_sampling(project.id, "Uniform sampling")
        assert client.project(project.id).sampling == "Uniform sampling"
        assert client.backends(project.id) == []
        with pytest.raises(LabelStudioError, match=r"no Label Studio at .* LABEL_STUDIO_URL"):
            LabelStudio(url, label_studio.api_key).projects()


# Failures


def test_a_label_studio_that_is_down_is_unavailable_until_it_is_back(
    other_label_studio: LabelStudioServer,
) -> None:
    server = other_label_studio
    client = LabelStudio(server.url, server.api_key)
    before = client.projects()
    server.kill()
    with pytest.raises(LabelStudioUnavailable, match="cannot be reached"):
        client.projects()
    with pytest.raises(LabelStudioUnavailable, match="cannot be reached"):
        LabelStudio(server.url, server.api_key).projects()
    server.start()
    assert client.projects() == before


@pytest.mark.parametrize(
    ("status", "body", "headers", "expected", "words"),
    [
        (500, b'{"detail": "database is locked"}', {}, LabelStudioUnavailable, "database is locked"),
        (500, b"{half", {}, LabelStudioUnavailable, "HTTP 500"),
        (502, b"<html>Bad gateway</html>", {"Content_Type": "text/html"}, LabelStudioUnavailable, "HTTP 502"),
        (429, b"{}", {"Retry_After": "60"}, LabelStudioUnavailable, "HTTP 429.* in 60 s"),
        (401, b'{"detail": "nope"}', {}, AccessDenied, "nope"),
        (403, b'{"detail": "nope"}', {}, AccessDenied, "user"),
        (200, b"<html>Sign in</html>", {"Content_Type": "text/html"}, LabelStudioError, "LABEL_STUDIO_URL"),
        (
            301,
            b"",
            {"Location": "https://elsewhere.example/api/?a=1"},
            LabelStudioError,
            "elsewhere.example/api/.",
        ),
    ],
)
@pytest.mark.parametrize("while_renewing", [True, False])
def test_each_failure_has_its_error(
    label_studio: LabelStudioServer,
    status: int,
    body: bytes,
    headers: dict[str, str],
    expected: type[LabelStudioError],
    words: str,
    while_renewing: bool,
) -> None:
    """Both when the access token is renewed and in a call proper; at once, without waiting for a retry."""
    access = LabelStudio(label_studio.url, label_studio.api_key).access_token()
    seen: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        body_of(handler)
        seen.append(handler.path)
        if handler.path == "/api/token/refresh/" and not while_renewing:
            reply(handler, 200, json.dumps({"access": access}).encode())
        else:
            reply(handler, status, body, **headers)

    with http_server(answer) as url, pytest.raises(expected, match=words) as raised:
        LabelStudio(url, label_studio.api_key).set_sampling(1, "Uniform sampling")
    assert type(raised.value) is expected
    assert len(seen) == (1 if while_renewing else 2)
    text = "".join(traceback.format_exception(raised.value))
    assert label_studio.api_key not in text
    assert access not in text


def test_a_token_that_expires_on_its_way_is_not_a_refused_key(label_studio: LabelStudioServer) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        body_of(handler)
        if handler.path == "/api/token/refresh/":
            expires.append(time.time() + 3)
            payload = base64.urlsafe_b64encode(json.dumps({"exp": expires[-1]}).encode()).rstrip(b"=")
            reply(handler, 200, json.dumps({"access": f"e30.{payload.decode()}.signature"}).encode())
        else:
            time.sleep(max(0, expires[-1] - time.time() + 0.01))
            reply(handler, 401, b'{"detail": "Given token not valid for any token type"}')

    expires: list[float] = []
    with http_server(answer) as url, pytest.raises(LabelStudioUnavailable, match="expired meanwhile"):
        LabelStudio(url, label_studio.api_key).set_sampling(1, "Uniform sampling")


def test_a_slow_answer_is_unavailable() -> None:
    done = threading.Event()
    with http_server(lambda _: bool(done.wait(30)) and None) as url:
        began = time.monotonic()
        with pytest.raises(LabelStudioUnavailable, match="did not answer in time"):
            LabelStudio(url, "key", timeout=0.3).projects()
        assert time.monotonic() - began < 20
        done.set()
