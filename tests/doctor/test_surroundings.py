"""What the doctor finds on this machine alone: each thing is broken, and it is to say so and how to mend it."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants
from sqlalchemy import text

from backend.demo.label_studio import free_port
from backend.deployment import Deployment
from backend.doctor import label_studio, surroundings
from backend.doctor.check import Check, Finding, broken, carry_out, fine
from backend.doctor.examination import Examination
from backend.doctor.label_studio import LabelStudioChecks
from backend.doctor.processes import ProcessChecks
from backend.settings import Settings
from backend.store.leases import presence
from tests.object_storage import s3_server

Look = Callable[..., Finding]


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Look:
    """Carry out one check by its name, with these environment variables."""
    monkeypatch.chdir(tmp_path)
    # As HF_HUB_OFFLINE and HF_HOME do, which the hub's client reads when it is imported.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def look(name: str, **environment: str) -> Finding:
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        examination = Examination()
        every = {check.name: check for check in surroundings.checks(*surroundings.read_settings())}
        every |= {check.name: check for check in ProcessChecks(examination.deployment).checks()}
        return carry_out(every[name], examination.secrets)

    return look


@pytest.mark.parametrize(
    ("check", "environment", "found", "remedy"),
    [
        ("settings", {"PORT": "many"}, "PORT", "Correct it"),
        (
            "settings",
            {"LABEL_STUDIO_URL": "localhost:8080"},
            "LABEL_STUDIO_URL must start with http",
            "Correct it",
        ),
        ("settings", {"LOG_LEVEL": "LOUD"}, "LOG_LEVEL must be DEBUG", "Correct it"),
        (
            "loop settings",
            {"ACTIVE_LEARNING_WINDOW": "many"},
            "ACTIVE_LEARNING_WINDOW: ",
            "Correct that variable",
        ),
        (
            "loop settings",
            {"ACTIVE_LEARNING_STRATEGY": "telepathy"},
            "ACTIVE_LEARNING_STRATEGY: There is no strategy 'telepathy'",
            "Correct that variable",
        ),
        ("pretrained weights", {"ACTIVE_LEARNING_EMBEDDING": "resnet18"}, "cannot be downloaded", "HF_HOME"),
        (
            "pretrained weights",
            {"ACTIVE_LEARNING_EMBEDDING": "hal9000"},
            "no pretrained model",
            "timm.list_pretrained",
        ),
        ("data folder", {"MODEL_DIR": "/proc/nowhere"}, "/proc/nowhere, cannot be written to", "MODEL_DIR"),
        ("server", {"BACKEND_URL": "http://[nonsense"}, "BACKEND_URL is no URL", "http://this-machine:9090"),
        ("database", {"DATABASE_URL": "nonsense"}, "cannot be used", "DATABASE_URL"),
        ("queue of jobs", {"REDIS_URL": "ftp://somewhere"}, "Redis cannot be used", "REDIS_URL"),
        ("settings", {"STORAGE_URL": "az://somewhere"}, "adlfs", "Correct it"),
        ("settings", {"BASIC_AUTH_USER": "us"}, "Only one of BASIC_AUTH_USER and BASIC_AUTH_PASS", "both"),
        ("object storage", {"STORAGE_URL": "/proc/nowhere"}, "/proc/nowhere", "STORAGE_URL"),
        ("Ray cluster", {"RAY_ADDRESS": "127.0.0.1:1"}, "cannot be used", "RAY_ADDRESS"),
        ("worker", {}, "Without the database", "active-learning worker"),
    ],
)
def test_what_is_broken_is_found_with_its_remedy(
    look: Look, check: str, environment: dict[str, str], found: str, remedy: str
) -> None:
    finding = look(check, **environment)
    assert finding.verdict == "broken"
    assert found in finding.found
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    ("check", "environment", "found", "remedy"),
    [
        (
            "loop settings",
            {"ACTIVE_LEARNING_WINDO": "9"},
            "ACTIVE_LEARNING_WINDO is no",
            "ACTIVE_LEARNING_WINDOW?",
        ),
        ("pretrained weights", {}, "trained on themselves", "HF_HOME"),
        ("database", {}, "no state yet", "active-learning serve"),
    ],
)
def test_what_may_be_meant_so_is_a_warning(
    look: Look, check: str, environment: dict[str, str], found: str, remedy: str
) -> None:
    finding = look(check, **environment)
    assert finding.verdict == "warning"
    assert found in finding.found
    assert remedy in finding.remedy


def test_a_loop_setting_in_the_env_file_is_read(look: Look, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ACTIVE_LEARNING_WINDOW=50\n")
    finding = look("loop settings")
    assert (finding.verdict, finding.found) == ("fine", "ACTIVE_LEARNING_WINDOW can be used.")
    (tmp_path / ".env").write_text("ACTIVE_LEARNING_WINDOW=many\n")
    assert look("loop settings").verdict == "broken"


def test_an_env_file_that_is_no_text(look: Look, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"PORT=9090\nBACKEND_URL=\xff\xfe\n")
    finding = look("settings")
    assert finding.verdict == "broken"
    assert ".env cannot be read" in finding.found


def test_servers_that_do_not_answer(look: Look) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    password = "very-secret"
    for check, environment in (
        ("database", {"DATABASE_URL": f"postgresql://me:{password}@{nowhere}/state"}),
        ("queue of jobs", {"REDIS_URL": f"redis://:{password}@{nowhere}/0"}),
        ("server", {"BACKEND_URL": f"http://me:{password}@{nowhere}"}),
    ):
        finding = look(check, **environment)
        assert finding.verdict == "broken"
        assert next(iter(environment)) in finding.remedy + finding.found
        assert password not in finding.found + finding.remedy


def test_an_object_storage(look: Look, tmp_path: Path) -> None:
    with s3_server(tmp_path) as server:
        assert look("object storage", STORAGE_URL=server.url, **server.environment).verdict == "fine"
        elsewhere = look("object storage", STORAGE_URL="s3://no-such-bucket/team-a")
    assert elsewhere.verdict == "broken"
    assert "the bucket exists" in elsewhere.found
    gone = look("object storage", STORAGE_URL=server.url)
    assert gone.verdict == "broken"
    assert "No label is lost" in gone.found


def test_a_queue_of_jobs_that_is_damaged(look: Look, tmp_path: Path) -> None:
    (tmp_path / "jobs.db").write_bytes(b"no database" * 100)
    finding = look("queue of jobs", MODEL_DIR=str(tmp_path), REDIS_URL="")
    assert finding.verdict == "broken"
    assert "delete that file" in finding.remedy


@pytest.mark.parametrize(("revision", "verdict"), [("0002", "warning"), ("9999", "broken")])
def test_a_schema_of_another_version(look: Look, tmp_path: Path, revision: str, verdict: str) -> None:
    deployment = Deployment(Settings(_env_file=None, model_dir=tmp_path))
    deployment.prepare()
    assert look("database", MODEL_DIR=str(tmp_path)).verdict == "fine"
    with deployment.database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
    assert look("database", MODEL_DIR=str(tmp_path)).verdict == verdict


def test_workers_are_counted(tmp_path: Path) -> None:
    deployment = Deployment(Settings(_env_file=None, model_dir=tmp_path))
    deployment.prepare()
    processes = ProcessChecks(deployment)
    processes.database()
    with presence(deployment.database, "worker"):
        assert processes.worker() == fine("One worker runs.")
        with presence(deployment.database, "worker"):
            assert processes.worker() == fine("2 workers run.")
    assert processes.worker().verdict == "broken"


def test_little_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(tmp_path).free
    assert surroundings.disk(tmp_path / "not" / "yet").verdict == "fine" or free < surroundings.LITTLE_DISK
    monkeypatch.setattr(surroundings, "LITTLE_DISK", 2 * free)
    assert surroundings.disk(tmp_path).verdict == "warning"
    monkeypatch.setattr(surroundings, "TOO_LITTLE_DISK", 2 * free)
    assert surroundings.disk(tmp_path).verdict == "broken"


def test_nothing_is_made_by_looking(look: Look, tmp_path: Path) -> None:
    for check in ("data folder", "disk", "database", "queue of jobs", "worker", "pretrained weights"):
        look(check, MODEL_DIR=str(tmp_path / "data"))
    assert list(tmp_path.iterdir()) == []


@contextmanager
def serving(release: str, ahead: timedelta) -> Iterator[str]:
    """Something that tells a version as Label Studio does, and the time by a clock of its own; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f'{{"release": "{release}"}}'.encode()
            self.send_response_only(200)
            self.send_header("Date", format_datetime(datetime.now(UTC) + ahead, usegmt=True))
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("seconds", "verdict", "words"),
    [
        (0, "fine", "agree"),
        (60, "warning", "behind"),
        (-60, "warning", "ahead of"),
        (600, "broken", "s behind"),
    ],
)
def test_clocks_that_differ(seconds: int, verdict: str, words: str) -> None:
    with serving(label_studio.tested_version(), timedelta(seconds=seconds + 0.5)) as url:
        checks = LabelStudioChecks(Deployment(Settings(_env_file=None, label_studio_url=url)))
        checks.address()
        finding = checks.clock()
    assert finding.verdict == verdict
    assert words in finding.found
    assert checks.version().verdict == "fine"


def test_a_version_that_this_was_not_tested_with() -> None:
    with serving("1.7.0", timedelta()) as url:
        checks = LabelStudioChecks(Deployment(Settings(_env_file=None, label_studio_url=url)))
        checks.address()
        assert checks.version().verdict == "warning"
        assert f"1.7.0; this was tested with {label_studio.tested_version()}" in checks.version().found


def test_a_check_that_hangs_or_fails_does_not_stop_the_others() -> None:
    hanging = Check("", "hangs", lambda: threading.Event().wait() and fine(""))
    assert carry_out(hanging, [], seconds=0.1).found == "No answer within 0 s."
    failing = carry_out(Check("", "fails", lambda: fine("hunter2"[9])), [])
    assert failing.verdict == "broken"
    assert "IndexError" in failing.found
    secretive = carry_out(Check("", "tells", lambda: broken("It is hunter2.", "Not hunter2.")), ["hunter2"])
    assert secretive == broken("It is ….", "Not ….")
