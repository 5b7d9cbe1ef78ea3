"""Ten minutes of `benchmarks/soak.py`: a team labels on while processes are killed at random."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(1800)  # a fresh Label Studio on PostgreSQL takes a minute or two by itself
def test_a_team_labels_on_while_processes_are_killed() -> None:
    command = [
        sys.executable,
        "benchmarks/soak.py",
        "--minutes",
        "10",
        "--annotators",
        "3",
        "--kill-every",
        "30",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=1800, check=False, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No label was lost" in done.stdout
