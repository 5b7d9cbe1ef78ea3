"""The doctor on a real Label Studio with a running loop: each thing is broken, and it says so and how to mend it."""

import json
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update
from sqlalchemy.orm import make_transient

from backend.demo.label_studio import LabelStudioServer, free_port
from backend.doctor.check import Finding, Verdict
from backend.store.tables import Task
from tests.conftest import DigitsProject, make_digits_project
from tests.end_to_end.command import command, quick_command
from tests.end_to_end.running_loop import RunningLoop, digits_config
from tests.end_to_end.test_connection import expired_key

Doctor = Callable[..., Mapping[str, Finding]]


@pytest.fixture(scope="module")
def running(
    label_studio: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningLoop]:
    """A server and a worker of this module's own, which its last tests stop."""
    loop = RunningLoop.on(
        label_studio, tmp_path_factory.mktemp("examined"), BASIC_AUTH_USER="us", BASIC_AUTH_PASS="pass-word"
    )
    with loop.processes:
        yield loop


@pytest.fixture(scope="module")
def project(running: RunningLoop, label_studio: LabelStudioServer, local_files: Path) -> DigitsProject:
    """A project whose first round is done."""
    made = make_digits_project(label_studio, local_files, 12, label_config=digits_config())
    running.connect(made.id)
    running.wait_for_round(made.id, 0)
    return made


@pytest.fixture
def doctor(running: RunningLoop, project: DigitsProject) -> Doctor:
    """What the command finds, by check; its exit code tells whether anything is broken."""

    def examine(**environment: str) -> Mapping[str, Finding]:
        outcome = quick_command(running, "doctor", "--json", **environment)
        facts = json.loads(outcome.told)
        findings = {
            one["name"]: Finding(Verdict(one["verdict"]), one["found"], one["remedy"] or "")
            for one in facts["checks"]
        }
        verdicts = {finding.verdict for finding in findings.values()}
        assert outcome.code == (1 if Verdict.BROKEN in verdicts else 0)
        assert facts["verdict"] == max(verdicts, key=list(Verdict).index)
        return findings

    return examine


def registered(http: httpx.Client, project: DigitsProject) -> list[Any]:
    """What Label Studio holds of us."""
    paths = ("/api/ml", "/api/webhooks/")
    return [
        sorted(one["id"] for one in http.get(path, params={"project": project.id}).json()) for path in paths
    ]


@pytest.fixture
def http(label_studio: LabelStudioServer, running: RunningLoop) -> Iterator[httpx.Client]:
    headers = {"Authorization": running.client.authorization()}
    with httpx.Client(base_url=label_studio.url, headers=headers, timeout=60, trust_env=False) as http:
        yield http


def test_nothing_is_wrong_and_nothing_is_changed_and_no_secret_is_told(
    running: RunningLoop, project: DigitsProject, doctor: Doctor, http: httpx.Client
) -> None:
    before = registered(http, project)
    findings = doctor()
    wrong = {name: finding for name, finding in findings.items() if finding.verdict != "fine"}
    assert wrong.keys() <= {"pretrained weights", "disk", "graphics card"}, wrong  # those are the machine's
    assert {"settings", "database", "worker", "server", "API key", "clock", "way back"} <= findings.keys()
    assert {
        "model",
        "webhook",
        "task sampling",
        "model version",
        "labeling config",
        "images",
    } <= findings.keys()
    assert registered(http, project) == before
    assert running.pending(project.id) == []
    shown = command(running, "doctor", "--project", str(project.id), COLUMNS="60")
    assert shown.code == 0
    assert max(map(len, shown.told.splitlines())) <= 60
    assert f"Project {project.id} Digits" in shown.told
    told = shown.told + str(findings)
    for secret in (running.label_studio.api_key, "pass-word", running.project(project.id).webhook_secret):
        assert secret not in told


def assert_broken(finding: Finding, found: str, remedy: str) -> None:
    assert finding.verdict == "broken", finding
    assert found in finding.found
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("", "no API key"),
        ("my key", "characters that no key has"),
        ("0" * 40, "does not accept the API key"),
        (expired_key(), "has expired"),
    ],
    ids=["missing", "malformed", "refused", "expired"],
)
def test_a_key_that_does_not_work(doctor: Doctor, key: str, found: str) -> None:
    findings = doctor(LABEL_STUDIO_API_KEY=key)
    assert_broken(findings["API key"], found, "Create a personal access token")
    assert findings["in Label Studio"].verdict == "warning"  # it goes on, and says what it could not see


def test_a_legacy_key(doctor: Doctor, http: httpx.Client) -> None:
    legacy = http.get("/api/current-user/token").json()["token"]
    assert_broken(
        doctor(LABEL_STUDIO_API_KEY=legacy)["API key"], "legacy token", "Create a personal access token"
    )


def test_addresses_that_lead_nowhere(running: RunningLoop, doctor: Doctor) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    findings = doctor(LABEL_STUDIO_URL=nowhere, BACKEND_URL=nowhere)
    assert_broken(findings["address"], "cannot be reached", "LABEL_STUDIO_URL")
    assert_broken(findings["server"], f"Nothing answers at BACKEND_URL, {nowhere}", "BACKEND_URL")
    swapped = doctor(LABEL_STUDIO_URL=running.processes.url, BACKEND_URL=running.label_studio.url)
    assert_broken(swapped["address"], "There is no Label Studio", "LABEL_STUDIO_URL")
    assert_broken(swapped["server"], "Something else answers", "BACKEND_URL")
    unknown = doctor(BACKEND_URL="http://no-such-host.invalid:9090")
    assert_broken(
        unknown["way back"], "refuses to call a backend at this address", "SSRF_PROTECTION_ENABLED=false"
    )


def test_a_project_that_is_not_connected(running: RunningLoop) -> None:
    outcome = quick_command(running, "doctor", "--project", "987654")
    assert outcome.code == 1
    assert "active-learning connect --project 987654" in " ".join(outcome.told.split())


def test_what_was_changed_in_label_studio(
    running: RunningLoop, project: DigitsProject, doctor: Doctor, http: httpx.Client
) -> None:
    (webhook,) = running.client.webhooks(project.id)
    http.patch(
        f"/api/webhooks/{webhook.id}/", json={"headers": {}, "actions": webhook.actions}
    ).raise_for_status()
    http.patch(f"/api/projects/{project.id}/", json={"sampling": "Uniform sampling"}).raise_for_status()
    running.client.set_model_version(project.id, "")
    findings = doctor()
    connect = f"active-learning connect --project {project.id}"
    assert_broken(findings["webhook"], "removed or changed in Label Studio", connect)
    assert_broken(findings["task sampling"], "'Uniform sampling'", connect)
    assert_broken(findings["model version"], "is None", "Press Start training")
    running.connect(project.id)
    running.client.set_model_version(project.id, running.served(project.id).version)
    findings = doctor()
    assert {findings[name].verdict for name in ("webhook", "task sampling", "model version")} == {"fine"}


def test_images_that_cannot_be_had(
    running: RunningLoop, project: DigitsProject, doctor: Doctor, http: httpx.Client
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/image.png"
    with running.deployment.database.write() as session:
        session.execute(
            update(Task)
            .where(Task.project_id == project.id, Task.id == min(project.digits))
            .values(source=nowhere)
        )
        session.execute(
            update(Task)
            .where(Task.project_id == project.id, Task.id == max(project.digits))
            .values(broken="The image is damaged.")
        )
    findings = doctor()
    assert_broken(findings["images"], "has a private address", "MEDIA_HOSTS")
    assert findings["broken images"].verdict == "warning"
    assert f"#{max(project.digits)}: The image is damaged." in findings["broken images"].found


def test_another_database_than_the_servers(
    running: RunningLoop, project: DigitsProject, doctor: Doctor, tmp_path: Path
) -> None:
    elsewhere = running.on(running.label_studio, tmp_path / "elsewhere")
    stored = running.project(project.id)
    make_transient(stored)
    stored.webhook_secret, stored.published_round = "another", None
    with elsewhere.deployment.database.write() as session:
        session.add(stored)
    (webhook,) = running.client.webhooks(project.id)
    running.client.delete_webhook(webhook.id)
    running.client.create_webhook(
        project.id, webhook.url, dict.fromkeys(webhook.headers, "another"), webhook.actions
    )
    there = elsewhere.processes.environment
    found = doctor(MODEL_DIR=there["MODEL_DIR"], DATABASE_URL=there["DATABASE_URL"])["webhook"]
    assert_broken(found, "works with another database", "MODEL_DIR")
    running.connect(project.id)


def test_a_labeling_config_that_cannot_be_learned(
    running: RunningLoop, project: DigitsProject, doctor: Doctor, http: httpx.Client
) -> None:
    def change(config: str) -> Finding:
        http.patch(f"/api/projects/{project.id}/", json={"label_config": config}).raise_for_status()
        return doctor()["labeling config"]

    text = '<View><Image name="image" value="$image"/><TextArea name="t" toName="image"/></View>'
    assert_broken(change(text), "only where it names people", "model_task")
    assert_broken(change(digits_config(strategy="telepathy")), "no strategy 'telepathy'", "Settings")
    assert change(digits_config()).verdict == "fine"


def test_processes_that_do_not_run(running: RunningLoop, doctor: Doctor) -> None:
    for process in ("worker", "serve"):
        running.processes.signal(process, signal.SIGKILL)
        running.processes.wait(process, 30)
    findings = doctor()
    assert_broken(findings["worker"], "No worker runs", "active-learning worker")
    assert_broken(findings["server"], "Nothing answers", "active-learning serve")
    assert_broken(findings["model"], "Label Studio gets no answer", "active-learning serve")
    assert findings["webhook"].verdict == "warning"
