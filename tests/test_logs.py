"""The log's two formats, as a process of its own writes them."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

PROGRAM = """
import logging
from backend.logs import about, begin_request, set_up
set_up("{level}", "{log_format}")
log = logging.getLogger("backend.loop.round")
log.info("before")
with about(project=3):
    with about(round=7):
        log.info("fit %s: %d labels", "Größe", 40)
    try:
        {{}}["no such key"]
    except KeyError:
        log.exception("the step failed")
begin_request(project=4)
log.warning("of a request")
begin_request()
logging.getLogger("httpx").info("chatty")
logging.getLogger("huey").error("not ours")
"""


def written(log_format: str, level: str = "INFO") -> list[str]:
    program = PROGRAM.format(log_format=log_format, level=level)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert not done.stdout
    return done.stderr.decode().splitlines()


def test_json_is_an_object_a_line() -> None:
    lines = [json.loads(line) for line in written("json")]
    for line in lines:
        assert abs(datetime.fromisoformat(line.pop("time")) - datetime.now(UTC)) < timedelta(hours=1)
    assert "Traceback" in lines[2]["traceback"]
    assert "KeyError: 'no such key'" in lines[2].pop("traceback")
    ours = {"logger": "backend.loop.round", "level": "INFO"}
    assert lines == [
        ours | {"message": "before"},
        ours | {"message": "fit Größe: 40 labels", "project": 3, "round": 7},
        ours | {"level": "ERROR", "message": "the step failed", "project": 3},
        ours | {"level": "WARNING", "message": "of a request", "project": 4},
        {"logger": "huey", "level": "ERROR", "message": "not ours"},
    ]


def test_text_says_what_a_line_is_about() -> None:
    lines = [line.partition(",")[2][4:] for line in written("text") if line.startswith("20")]
    assert lines == [
        "INFO backend.loop.round: before",
        "INFO backend.loop.round: [project 3, round 7] fit Größe: 40 labels",
        "ERROR backend.loop.round: [project 3] the step failed",
        "WARNING backend.loop.round: [project 4] of a request",
        "ERROR huey: not ours",
    ]


def test_a_quiet_deployment_shows_what_it_asked_for() -> None:
    assert [json.loads(line)["level"] for line in written("json", "ERROR")] == ["ERROR", "ERROR"]


FORGED = "x\n2026-01-31 12:00:00,000 ERROR backend.access: gone\r\x1b[2J\x9b2J\u2028y"
QUOTING = f"""
import logging
from backend.logs import set_up
set_up("INFO", "{{log_format}}")
log = logging.getLogger("backend.loop.round")
log.info("about %s", {FORGED!a})
try:
    raise ValueError({FORGED!a})
except ValueError:
    log.exception("the step failed")
"""


def quoting(log_format: str) -> str:
    program = QUOTING.format(log_format=log_format)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    return done.stderr.decode()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_a_line_quotes_cannot_drive_a_terminal(log_format: str) -> None:
    assert [sign for sign in quoting(log_format) if not sign.isprintable() and sign != "\n"] == []


def test_a_record_is_one_line_and_a_traceback_keeps_its_own() -> None:
    lines = quoting("text").splitlines()
    records = [line.partition(",")[2][4:] for line in lines if line[0] != " "]
    shown = r"x\n2026-01-31 12:00:00,000 ERROR backend.access: gone\r\u001b[2J\u009b2J\u2028y"
    assert records == [
        f"INFO backend.loop.round: about {shown}",
        "ERROR backend.loop.round: the step failed",
    ]
    assert lines[2] == "  Traceback (most recent call last):"
    assert lines[-2] == "  ValueError: x"
    told = [json.loads(line) for line in quoting("json").splitlines()]
    assert [line["message"] for line in told] == [f"about {FORGED}", "the step failed"]
