"""What would the loop have saved us? `active-learning simulate` on a project of a real Label Studio."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backend.cli import app
from backend.demo.annotator import Annotator
from backend.demo.label_studio import LabelStudioServer
from tests.conftest import make_digits_project

OPTIONS = [
    "--batch",
    "10",
    "--budget",
    "30",
    "--seeds",
    "1",
    "--members",
    "2",
    "--embedding",
    "self-supervised",
]


def test_a_live_project(
    label_studio: LabelStudioServer, local_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABEL_STUDIO_URL", label_studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.api_key)
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "model"))
    project = make_digits_project(label_studio, local_files, 70)
    annotator = Annotator(label_studio.url, label_studio.api_key, project.id)
    for task_id, digit in project.digits.items():
        annotator.choose(task_id, "digit", "image", [str(digit)])

    arguments = ["simulate", f"project:{project.id}", *OPTIONS, "--out", "results"]
    outcome = CliRunner().invoke(app, arguments)
    assert outcome.exit_code == 0, outcome.output
    found = json.loads(Path("results/curves.json").read_text())
    assert [run["strategy"] for run in found["runs"]] == ["random", "default"]
    assert all(run["labels"] == [10, 20, 30] for run in found["runs"])
    assert found["facts"]["images"] == 70


def test_settings_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABEL_STUDIO_URL", "label-studio.example.com")
    outcome = CliRunner().invoke(app, ["simulate", "project:1", "--out", "results"])
    assert outcome.exit_code == 1
    assert (
        "Environment variable LABEL_STUDIO_URL: Value error, must start with http:// or https://"
        in outcome.stderr
    )
