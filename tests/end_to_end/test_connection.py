"""Connecting a project and putting it back: by the command, by hand in Label Studio, and with bad input."""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from sqlalchemy import update
from werkzeug.serving import make_server

from backend.app import create_app
from backend.demo.label_studio import LabelStudioServer, free_port
from backend.loop.advancing import advance
from backend.loop.connection import UNCERTAINTY_SAMPLING
from backend.loop.events import SECRET_HEADER, WEBHOOK_ACTIONS
from backend.loop.jobs import Jobs
from backend.loop.reconciliation import notice_missed_changes
from backend.store.tables import Project, ProjectState
from tests.conftest import DigitsProject, choice
from tests.end_to_end.command import Outcome, command, quick_command, status
from tests.end_to_end.running_loop import RunningLoop, digits_config, wait_for
from tests.end_to_end.test_closed_loop import FAST, label

MakeProject = Callable[..., DigitsProject]


def shown(http: httpx.Client, project_id: int) -> dict[str, Any]:
    """All that Label Studio shows of a project that connecting might change."""
    project = http.get(f"/api/projects/{project_id}/").json()
    backends = http.get("/api/ml", params={"project": project_id}).json()
    for backend in backends:
        del backend["updated_at"]  # moves whenever Label Studio asks how the backend is
    labeled = http.get(f"/api/projects/{project_id}/export", params={"exportType": "JSON"}).json()
    predictions = http.get("/api/predictions/", params={"project": project_id}).json()
    for prediction in predictions:
        del prediction["created_ago"]  # in minutes
    return {
        "project": {name: project[name] for name in ("sampling", "model_version", "label_config", "title")},
        "webhooks": http.get("/api/webhooks/", params={"project": project_id}).json(),
        "backends": backends,
        "predictions": predictions,
        "annotations": {task["id"]: task["annotations"] for task in labeled},
    }


def connect_by_hand(http: httpx.Client, project_id: int, url: str, **fields: Any) -> httpx.Response:
    """Settings → Model → Connect."""
    form = {"project": project_id, "url": url, "title": "By hand", **fields}
    return http.post("/api/ml", json=form)


def said(answer: httpx.Response) -> str:
    """The sentence that Label Studio shows."""
    return str(answer.json())


@contextmanager
def server_alone(loop: RunningLoop) -> Iterator[str]:
    """The backend's server without its worker, in this process; gives its URL."""
    settings = loop.deployment.settings
    server = make_server("127.0.0.1", settings.port, create_app(settings), threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield settings.backend_url
    finally:
        server.shutdown()
        thread.join()


def work(loop: RunningLoop, project_id: int) -> None:
    """What a worker does when it is nudged."""
    advance(loop.deployment, project_id, lambda *_: None, lambda *_: None)


def assert_refused(outcome: Outcome, *words: str) -> None:
    """Exit code 1, one sentence for the person on stderr, and nothing else."""
    assert outcome.code == 1
    assert outcome.told == ""
    assert outcome.complained.startswith("Error: ")
    assert "Traceback" not in outcome.complained
    for word in words:
        assert word in outcome.complained


def test_connect_once_twice_disconnect_and_again(
    loop: RunningLoop, make_project: MakeProject, http: httpx.Client
) -> None:
    project = make_project(16, label_config=digits_config(**FAST))
    foreign_webhook = loop.client.create_webhook(project.id, "http://127.0.0.1:1/hook", {}, ["TASKS_CREATED"])
    task = min(project.digits)
    foreign = {"task": task, "result": choice(3), "score": 0.9, "model_version": "someone else's"}
    assert loop.client.import_predictions(project.id, [foreign]) == 1
    loop.client.set_model_version(project.id, "someone else's")
    before = shown(http, project.id)

    connected = command(loop, "connect", "--project", str(project.id))
    assert connected.code == 0, connected
    assert f"Project {project.id} is connected" in connected.told
    backends = loop.client.backends(project.id)
    assert [(backend.url, backend.state) for backend in backends] == [(loop.processes.url, "CO")]
    ours = [hook for hook in loop.client.webhooks(project.id) if hook.id != foreign_webhook.id]
    assert len(ours) == 1
    assert ours[0].url == loop.processes.url + "/webhook"
    assert ours[0].actions == WEBHOOK_ACTIONS
    assert not ours[0].send_for_all_actions
    assert len(ours[0].headers[SECRET_HEADER]) >= 32
    assert loop.client.project(project.id).sampling == UNCERTAINTY_SAMPLING
    first = loop.wait_for_round(project.id, 0)
    assert first.reason == "the project was connected"
    assert loop.client.project(project.id).model_version == first.version
    annotator = loop.annotator(project.id)
    for task_id in loop.queue(project.id)[:2]:
        label(annotator, project, task_id)
    wait_for("both labels to arrive", lambda: len(loop.pending(project.id)) == 2)
    labels = shown(http, project.id)["annotations"]

    working = shown(http, project.id)
    again = command(loop, "connect", "--project", str(project.id))
    assert again.code == 0, again
    assert "was connected already" in again.told
    assert shown(http, project.id) == working
    assert loop.served(project.id).number == 0

    disconnected = command(loop, "disconnect", "--project", str(project.id))
    assert disconnected.code == 0, disconnected
    after = shown(http, project.id)
    assert after.pop("annotations") == labels
    before.pop("annotations")
    assert after == before
    assert "disconnected" in status(loop, project.id).lower()
    label(annotator, project, max(project.digits))  # nobody tells us of it
    assert len(loop.pending(project.id)) == 2

    assert loop.connect(project.id)
    reconnected = loop.wait_for_round(project.id, 1)
    assert reconnected.number == 1  # connecting twice has started none
    assert reconnected.reason == "the project was connected"
    assert reconnected.facts["labels"] == 3
    assert loop.client.project(project.id).model_version == reconnected.version
    assert {"someone else's", reconnected.version} == loop.client.model_versions(project.id).keys()


def test_what_a_person_changed_meanwhile_stays_after_disconnect(
    loop: RunningLoop, make_project: MakeProject, http: httpx.Client
) -> None:
    project = make_project(12, label_config=digits_config(**FAST))
    loop.connect(project.id)
    loop.wait_for_round(project.id, 0)
    loop.client.set_sampling(project.id, "Uniform sampling")
    assert "sampling is 'Uniform sampling'" in status(loop, project.id)
    loop.client.delete_webhook(loop.client.webhooks(project.id)[0].id)
    assert "webhook that tells of new labels was removed" in status(loop, project.id)
    assert quick_command(loop, "disconnect", "--project", str(project.id)).code == 0
    assert loop.client.project(project.id).sampling == "Uniform sampling"
    assert loop.client.project(project.id).model_version is None
    assert loop.client.model_versions(project.id) == {}


def test_connected_by_hand_it_works_the_same(
    loop: RunningLoop, make_project: MakeProject, http: httpx.Client
) -> None:
    project = make_project(24, label_config=digits_config(**FAST))
    before = shown(http, project.id)
    answer = connect_by_hand(http, project.id, loop.processes.url)
    assert answer.status_code == 201, said(answer)
    loop.wait_for_round(project.id, 0)
    hook = loop.client.webhooks(project.id)
    assert [(w.url, w.send_for_all_actions) for w in hook] == [(loop.processes.url + "/webhook", False)]
    assert SECRET_HEADER in hook[0].headers
    remote = loop.client.project(project.id)
    assert (remote.sampling, remote.model_version) == (UNCERTAINTY_SAMPLING, loop.served(project.id).version)

    annotator = loop.annotator(project.id)
    for task_id in loop.queue(project.id)[:8]:
        asked = annotator.next_task()
        assert asked is not None
        assert asked.id == task_id
        label(annotator, project, task_id)
    assert loop.wait_for_round(project.id, 1).trained

    # Removed by hand as well: what Label Studio leaves behind is put back.
    backend = loop.client.backends(project.id)[0]
    assert http.delete(f"/api/ml/{backend.id}").is_success
    notice_missed_changes(loop.deployment, project.id)
    wait_for("disconnecting", lambda: loop.project(project.id).state == ProjectState.DISCONNECTED)
    after = shown(http, project.id)
    assert len(after.pop("annotations")) == 8
    before.pop("annotations")
    assert after == before


def test_removed_while_the_round_waits_is_noticed_too(
    loop: RunningLoop, make_project: MakeProject, http: httpx.Client
) -> None:
    """Someone breaks the labeling config, gives up, and removes the model."""
    project = make_project(12, label_config=digits_config(**FAST))
    loop.connect(project.id)
    loop.wait_for_round(project.id, 0)
    text = '<View><Image name="image" value="$image"/><TextArea name="t" toName="image"/></View>'
    assert http.patch(f"/api/projects/{project.id}/", json={"label_config": text}).is_success
    wait_for("the round to wait", lambda: (r := loop.latest(project.id)) and r.state == "waiting")
    told = status(loop, project.id)
    assert "TextArea" in told
    assert "names people" in told
    assert http.delete(f"/api/ml/{loop.client.backends(project.id)[0].id}").is_success
    notice_missed_changes(loop.deployment, project.id)
    wait_for("disconnecting", lambda: loop.project(project.id).state == ProjectState.DISCONNECTED)
    assert shown(http, project.id)["webhooks"] == []


def test_another_server_s_project_of_the_same_number_begins_anew(
    loop: RunningLoop, make_project: MakeProject
) -> None:
    """As after Label Studio was set up anew: what is stored is of a project that was made at another time."""
    project = make_project(12, label_config=digits_config(**FAST))
    loop.connect(project.id)
    loop.wait_for_round(project.id, 0)
    first = loop.served(project.id).version
    with loop.deployment.database.write() as session:
        session.execute(update(Project).where(Project.id == project.id).values(created=1))
    notice_missed_changes(loop.deployment, project.id)
    assert loop.project(project.id).created > 1
    Jobs(loop.deployment).nudge(project.id)
    wait_for(
        "a round of its own",
        lambda: (r := loop.latest(project.id)) and r.state == "done" and r.version != first,
    )
    assert loop.latest(project.id).number == 0  # type: ignore[union-attr]


def test_basic_auth(
    label_studio: LabelStudioServer, make_project: MakeProject, http: httpx.Client, tmp_path: Path
) -> None:
    """A server alone: what its worker would do is done here."""
    loop = RunningLoop.on(label_studio, tmp_path, BASIC_AUTH_USER="ann", BASIC_AUTH_PASS="s3cret")
    project = make_project(12, label_config=digits_config(**FAST))
    with server_alone(loop) as url:
        for fields in ({}, {"basic_auth_user": "ann", "basic_auth_pass": "wrong"}):
            method = "BASIC_AUTH" if fields else "NONE"
            answer = connect_by_hand(http, project.id, url, auth_method=method, **fields)
            assert answer.status_code == 400
            assert "Wrong user or password" in said(answer)
            assert "BASIC_AUTH_USER" in said(answer)
        assert loop.client.backends(project.id) == []

        right = {"auth_method": "BASIC_AUTH", "basic_auth_user": "ann", "basic_auth_pass": "s3cret"}
        answer = connect_by_hand(http, project.id, url, **right)
        assert answer.status_code == 201, said(answer)
        work(loop, project.id)
        assert loop.latest(project.id).state == "done"  # type: ignore[union-attr]
        label(loop.annotator(project.id), project, loop.queue(project.id)[0])
        wait_for("the event", lambda: loop.pending(project.id) == ["ANNOTATION_CREATED"])
        assert "s3cret" not in str(shown(http, project.id))

        assert quick_command(loop, "disconnect", "--project", str(project.id)).code == 0
        assert loop.connect(project.id)  # and the command registers it with the password
        assert [backend.state for backend in loop.client.backends(project.id)] == ["CO"]

        assert quick_command(loop, "disconnect", "--project", str(project.id)).code == 0
        with_password = url.replace("http://", "http://ann:s3cret@")
        assert connect_by_hand(http, project.id, with_password).status_code == 201
        work(loop, project.id)
        assert loop.project(project.id).state == ProjectState.ACTIVE
        assert [hook.url for hook in loop.client.webhooks(project.id)] == [f"{url}/webhook"]


def expired_key() -> str:
    """A personal access token whose time is over; its signature does not matter."""

    def part(**fields: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(fields).encode()).rstrip(b"=").decode()

    return f"{part(alg='HS256', typ='JWT')}.{part(token_type='refresh', exp=1)}.c2lnbmF0dXJl"


UNUSABLE_CONFIGS = {
    '<View><Text name="t" value="$image"/><Choices name="c" toName="t"><Choice value="a"/><Choice value="b"/>'
    "</Choices></View>": "Image",
    '<View><Image name="image" value="$image"/><TextArea name="t" toName="image"/></View>': "names people",
    digits_config(strategy="telepathy"): "telepathy",
    digits_config(window="many"): "window",
}


@pytest.mark.parametrize(
    ("config", "word"), UNUSABLE_CONFIGS.items(), ids=["image", "control", "strategy", "window"]
)
def test_a_project_that_cannot_be_learned_is_refused_with_the_reason(
    loop: RunningLoop, make_project: MakeProject, http: httpx.Client, config: str, word: str
) -> None:
    project = make_project(0, label_config=config)
    before = shown(http, project.id)
    assert_refused(quick_command(loop, "connect", "--project", str(project.id)), word)
    answer = connect_by_hand(http, project.id, loop.processes.url)
    assert answer.status_code == 400
    assert word in said(answer)
    assert shown(http, project.id) == before
    assert quick_command(loop, "status", "--project", str(project.id)).code == 1  # nothing was begun


def test_an_unknown_strategy_in_the_extra_params(
    loop: RunningLoop, make_project: MakeProject, http: httpx.Client
) -> None:
    project = make_project(12, label_config=digits_config(**FAST))
    refused = connect_by_hand(http, project.id, loop.processes.url, extra_params={"strategy": "telepathy"})
    assert refused.status_code == 400
    assert "telepathy" in said(refused)
    assert "k_center_greedy" in said(refused)  # what there is
    assert (
        connect_by_hand(http, project.id, loop.processes.url, extra_params={"window": 11}).status_code == 201
    )
    assert loop.wait_for_round(project.id, 0).facts["window"] >= 11
    backend = loop.client.backends(project.id)[0]
    form = {"project": project.id, "url": loop.processes.url, "auth_method": "NONE"}
    refused = http.patch(f"/api/ml/{backend.id}", json=form | {"extra_params": {"strategy": "telepathy"}})
    assert refused.status_code == 400
    assert "telepathy" in said(refused)
    assert loop.project(project.id).extra_params == {"window": 11}  # the loop goes on as it was
    http.patch(f"/api/ml/{backend.id}", json=form | {"extra_params": {"strategy": "entropy"}})
    assert loop.wait_for_round(project.id, 1).reason == "the settings were changed"
    assert loop.project(project.id).extra_params == {"strategy": "entropy"}


def test_an_unknown_strategy_in_the_labeling_config_of_a_running_loop(
    loop: RunningLoop, make_project: MakeProject, http: httpx.Client
) -> None:
    project = make_project(12, label_config=digits_config(**FAST))
    loop.connect(project.id)
    loop.wait_for_round(project.id, 0)

    def set_config(**settings: object) -> None:
        answer = http.patch(f"/api/projects/{project.id}/", json={"label_config": digits_config(**settings)})
        assert answer.is_success

    set_config(**FAST, strategy="telepathy")
    wait_for("the round to wait", lambda: (r := loop.latest(project.id)) and r.state == "waiting")
    told = status(loop, project.id)
    assert "telepathy" in told
    assert "k_center_greedy" in told
    assert "No label is lost" in told
    assert "telepathy" in (
        loop.client.backends(project.id)[0].error_message or ""
    )  # Settings -> Model shows it
    assert loop.client.project(project.id).model_version == loop.served(project.id).version
    label(loop.annotator(project.id), project, loop.queue(project.id)[0])
    set_config(**FAST, strategy="entropy")
    assert loop.wait_for_round(project.id, 1).facts["labels"] == 1
    assert "telepathy" not in status(loop, project.id)


def test_a_key_or_an_address_that_does_not_work(
    loop: RunningLoop, make_project: MakeProject, http: httpx.Client
) -> None:
    project = make_project(0, label_config=digits_config(**FAST))
    number = str(project.id)

    def refused(*words: str, **environment: str) -> None:
        outcome = quick_command(loop, "connect", "--project", number, **environment)
        assert_refused(outcome, *words)
        if key := environment.get("LABEL_STUDIO_API_KEY"):
            assert key not in outcome.complained

    refused("does not accept the API key", "LABEL_STUDIO_API_KEY", LABEL_STUDIO_API_KEY="0" * 40)
    refused("no API key", "LABEL_STUDIO_API_KEY", LABEL_STUDIO_API_KEY="")
    refused("characters that no key has", LABEL_STUDIO_API_KEY="my key")
    refused("has expired", "LABEL_STUDIO_API_KEY", LABEL_STUDIO_API_KEY=expired_key())
    nowhere = f"http://127.0.0.1:{free_port()}"
    refused("cannot be reached", nowhere, "LABEL_STUDIO_URL", LABEL_STUDIO_URL=nowhere)
    refused("must start with http", "LABEL_STUDIO_URL", LABEL_STUDIO_URL="localhost:8080")
    no_project = quick_command(loop, "connect", "--project", "987654")
    assert_refused(no_project, "no project 987654")
    assert_refused(quick_command(loop, "disconnect", "--project", "987654"), "not connected")
    assert_refused(quick_command(loop, "status", "--project", "987654"), "active-learning connect")


def test_a_backend_that_label_studio_cannot_reach(
    loop: RunningLoop, make_project: MakeProject, http: httpx.Client
) -> None:
    project = make_project(0, label_config=digits_config(**FAST))
    before = shown(http, project.id)
    nowhere = f"http://127.0.0.1:{free_port()}"
    outcome = quick_command(loop, "connect", "--project", str(project.id), BACKEND_URL=nowhere)
    assert_refused(outcome, nowhere)
    assert shown(http, project.id) == before  # nothing half-done


@pytest.mark.parametrize("ml_backends", ["blocked", "allowed"])
def test_label_studio_that_does_not_call_private_addresses(
    start_label_studio: Callable[..., LabelStudioServer], tmp_path: Path, ml_backends: str
) -> None:
    """As it comes, and with one of its two protections off: then it says no, yet keeps the backend."""
    protections = {
        "LABEL_STUDIO_ML_BLOCK_LOCAL_IP": str(ml_backends == "blocked").lower(),
        "LABEL_STUDIO_SSRF_PROTECTION_ENABLED": "true",
    }
    server = start_label_studio(settings=protections)
    loop = RunningLoop.on(server, tmp_path / "backend")
    headers = {"Authorization": loop.client.authorization()}
    remedy = "LABEL_STUDIO_SSRF_PROTECTION_ENABLED=false"
    with (
        server_alone(loop) as url,
        httpx.Client(base_url=server.url, headers=headers, timeout=60, trust_env=False) as http,
    ):
        form = {"title": "Digits", "label_config": digits_config(**FAST)}
        project = http.post("/api/projects/", json=form).json()["id"]
        before = shown(http, project)
        assert_refused(quick_command(loop, "connect", "--project", str(project)), remedy)
        assert shown(http, project) == before
        answer = connect_by_hand(http, project, url)
        assert answer.status_code == 403
        assert "reserved network address" in said(answer)
        if ml_backends == "allowed":
            work(loop, project)
            assert remedy in status(loop, project)
            stored = http.get("/api/ml", params={"project": project}).json()
            assert remedy in stored[0]["error_message"]


BAD_KEYS = {
    "": "no LABEL_STUDIO_API_KEY",
    "my key": "characters that no key has",
    expired_key(): "has expired",
}


@pytest.mark.parametrize(("key", "words"), BAD_KEYS.items(), ids=["none", "malformed", "expired"])
def test_connecting_by_hand_a_backend_whose_key_can_be_no_key(
    label_studio: LabelStudioServer,
    make_project: MakeProject,
    http: httpx.Client,
    tmp_path: Path,
    key: str,
    words: str,
) -> None:
    project = make_project(0, label_config=digits_config(**FAST))
    with server_alone(RunningLoop.on(label_studio, tmp_path, LABEL_STUDIO_API_KEY=key)) as url:
        answer = connect_by_hand(http, project.id, url)
    assert answer.status_code == 400
    assert words in said(answer)
    assert "Account & Settings" in said(answer)


def test_connecting_by_hand_a_backend_whose_key_label_studio_does_not_accept(
    label_studio: LabelStudioServer, make_project: MakeProject, http: httpx.Client, tmp_path: Path
) -> None:
    """Only trying tells, which the worker does; then Label Studio and `status` show what it found."""
    project = make_project(12, label_config=digits_config(**FAST))
    loop = RunningLoop.on(label_studio, tmp_path, LABEL_STUDIO_API_KEY="0" * 40)
    with server_alone(loop) as url:
        assert connect_by_hand(http, project.id, url).status_code == 201
        work(loop, project.id)
        backend = http.get("/api/ml", params={"project": project.id}).json()[0]
        assert backend["state"] == "ER"
        assert "does not accept the API key" in backend["error_message"]
        assert "does not accept the API key" in status(loop, project.id)

        variables = {**loop.processes.environment, "LABEL_STUDIO_API_KEY": label_studio.api_key}
        same = ("BACKEND_URL", "PORT", "DATABASE_URL", "REDIS_URL")
        mended = RunningLoop.on(label_studio, tmp_path, **{name: variables[name] for name in same})
        work(mended, project.id)
        assert mended.project(project.id).state == ProjectState.ACTIVE
        assert mended.wait_for_round(project.id, 0).state == "done"
        backend = http.get("/api/ml", params={"project": project.id}).json()[0]
        assert backend["state"] == "CO"


def test_malformed_json_is_refused_with_a_sentence(loop: RunningLoop) -> None:
    for path in ("/setup", "/predict", "/webhook"):
        answer = httpx.post(loop.processes.url + path, content=b'{"project": ', trust_env=False)
        assert answer.status_code == 400
        assert answer.reason_phrase == answer.json()["error"] == "The request's body is not a JSON object"


def test_images_that_cannot_be_used_cost_their_tasks_alone(
    loop: RunningLoop, make_project: MakeProject, http: httpx.Client
) -> None:
    project = make_project(24, label_config=digits_config(**FAST, audit_share=0))
    broken, missing, bare, *_ = project.digits
    (project.images / "0000.png").write_bytes(b"not an image")
    mended = (project.images / "0001.png").rename(project.images / "away")
    http.patch(f"/api/tasks/{bare}/", json={"data": {"note": "no image here"}}).raise_for_status()
    loop.connect(project.id)
    loop.wait_for_round(project.id, 0)
    queue = loop.queue(project.id)
    assert set(queue) == set(project.digits)
    assert set(queue[-3:]) == {broken, missing, bare}  # served last: a person may make sense of them
    told = status(loop, project.id)
    for task_id, reason in ((broken, "in no known format"), (missing, "404"), (bare, "lacks 'image'")):
        assert any(f"#{task_id}" in line and reason in line for line in told.splitlines()), (task_id, reason)
    annotator = loop.annotator(project.id)
    for task_id in queue[:8]:
        label(annotator, project, task_id)
    assert loop.wait_for_round(project.id, 1).trained

    mended.rename(project.images / "0001.png")
    (project.images / "0000.png").write_bytes((project.images / "0003.png").read_bytes())
    backend = loop.client.backends(project.id)[0]
    assert http.post(f"/api/ml/{backend.id}/train").is_success
    done = loop.wait_for_round(project.id, 2)
    assert done.facts["candidates"] == 24 - 8 - 1
    assert "1 image cannot be used" in status(loop, project.id)
