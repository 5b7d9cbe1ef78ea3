"""No secret is told by a command that finds nobody at the addresses it is given."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.security.made_up_secrets import SECRETS, told


@pytest.mark.parametrize("arguments", [["doctor"], ["doctor", "--json"], ["status"], ["serve"], ["worker"]])
def test_the_command_line_tells_none(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environment = {
        "LABEL_STUDIO_URL": "http://127.0.0.1:9",
        "LABEL_STUDIO_API_KEY": SECRETS["api key"],
        "BASIC_AUTH_USER": "lead",
        "BASIC_AUTH_PASS": SECRETS["password"],
        "BACKEND_URL": f"http://lead:{SECRETS['password']}@127.0.0.1:9",
        "DATABASE_URL": f"postgresql://u:{SECRETS['database']}@127.0.0.1:9/x",
        "REDIS_URL": f"redis://:{SECRETS['redis']}@127.0.0.1:9/0",
        "MODEL_DIR": str(tmp_path),
        "LOG_LEVEL": "DEBUG",
    }
    command = [str(Path(sys.executable).with_name("active-learning")), *arguments]
    ran = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=200
    )
    assert ran.returncode != 0  # no database answers
    assert ran.stdout + ran.stderr
    assert told(ran.stdout + ran.stderr) == []
