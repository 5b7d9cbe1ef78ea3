"""`active-learning` as a person runs it."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from backend.cli import app
from tests.end_to_end.running_loop import RunningLoop


@dataclass(frozen=True)
class Outcome:
    """What a command left on the screen, in one line each, and its exit code."""

    code: int
    told: str
    complained: str


def command(loop: RunningLoop, *arguments: str, **environment: str) -> Outcome:
    """Run the installed command in a process of its own; with other settings, if given."""
    executable = str(Path(sys.executable).parent / "active-learning")
    ended = subprocess.run(
        [executable, *arguments],
        env=loop.processes.environment | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Outcome(ended.returncode, ended.stdout, ended.stderr)


def quick_command(loop: RunningLoop, *arguments: str, **environment: str) -> Outcome:
    """The same in this process, which saves importing everything anew; with other settings, if given."""
    settings: Mapping[str, str] = loop.processes.environment | environment
    ended = CliRunner().invoke(app, list(arguments), env=dict(settings))
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return Outcome(ended.exit_code, ended.stdout, ended.stderr)


def status(loop: RunningLoop, project_id: int) -> str:
    """What `active-learning status` tells of a project."""
    outcome = quick_command(loop, "status", "--project", str(project_id))
    assert outcome.code == 0, outcome
    print(outcome.told)  # for whoever wants to read it: pytest -s
    return outcome.told
