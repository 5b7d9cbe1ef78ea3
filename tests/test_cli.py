"""The command line, as far as it needs no Label Studio."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from sqlalchemy import update
from typer.testing import CliRunner, Result

from backend.cli import app
from backend.cli.facts import queue_facts
from backend.cli.terminal import console
from backend.demo.label_studio import free_port
from backend.deployment import Deployment
from backend.failures import fail
from backend.settings import Settings
from backend.store.tables import Project, ProjectState, QueueEntry, Round, RoundState, Task
from strategies import strategy_names
from strategies.registry import STRATEGIES

PROGRAM = Path(sys.executable).parent / "active-learning"
REASON = 'committee of 5 split 3:2 between "shirt [new]" and "coat"; far from anything that has been labeled so far'
Run = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder, and an environment that names it; no Label Studio answers."""
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    monkeypatch.setenv("LABEL_STUDIO_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "0" * 40)
    return tmp_path


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(*arguments: str, columns: int = 80) -> Result:
        monkeypatch.setattr(console, "width", columns)
        ended = CliRunner().invoke(app, list(arguments))
        assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
        return ended

    return run


@pytest.fixture
def deployment(folder: Path) -> Deployment:
    """Project 3, whose second round is served: task 1 is labeled, 2 and 3 are published, 4 is kept for later."""
    deployment = Deployment(Settings(_env_file=None))
    deployment.prepare()
    measured = {"metric": "accuracy", "score": 0.9, "interval": [0.8, 0.95], "total": 40, "classes": []}
    untrained = {"trained": False, "cold_start": "8 labels are needed", "strategy": "max_herding"}
    trained = {"trained": True, "training": 10, "strategy": "margin", "measured": measured}
    with deployment.database.write() as session:
        session.add(Project(id=3, title="Clothes [2026]", state=ProjectState.ACTIVE, published_round=2))
        session.flush()
        for number in range(2):
            session.add(
                Round(
                    id=number + 1,
                    project_id=3,
                    number=number,
                    version=f"round-{number}-abcdef",
                    reason="the project was connected" if number == 0 else "10 new labels",
                    state=RoundState.DONE,
                    step="decide",
                    seconds={"sync": 0.25, "fit": 1.5},
                    trained=number == 1,
                    facts={"labels": 10 * number, "controls": {"kind": trained if number else untrained}},
                )
            )
        session.flush()
        for task in range(1, 5):
            session.add(Task(project_id=3, id=task, source="/data/upload/3/a.png", labeled=task == 1))
            session.add(
                QueueEntry(
                    round_id=2,
                    rank=task - 1,
                    task_id=task,
                    score=1 / task,
                    reason=REASON,
                    published=task < 4,
                    prediction={"confidence": 0.61, "labels": {"shirt [new]": 1}} if task < 4 else None,
                )
            )
    return deployment


def told(text: str) -> str:
    """What a table says, whatever its lines and columns."""
    return " ".join(text.split())


def column(text: str, heading: str) -> str:
    """The last column of a table, its lines joined."""
    lines = text.splitlines()
    start = lines[0].index(heading)
    return told(" ".join(line[start:] for line in lines[1:]))


def test_help_comes_at_once_and_names_every_command_and_the_exit_codes() -> None:
    seen = subprocess.run(
        [sys.executable, "-X", "importtime", PROGRAM, "--help"], capture_output=True, text=True, check=True
    )
    commands = "demo serve worker connect disconnect status rounds queue strategies simulate doctor faces"
    assert set(commands.split()) <= set(seen.stdout.split())
    assert "Exit codes: 0, fine; 1, failed" in seen.stdout
    assert "--install-completion" in seen.stdout
    assert "torch" not in seen.stderr  # imports for seconds


def test_simulate_shows_its_own_options(run: Run) -> None:
    shown = run("simulate", "--help")
    assert shown.exit_code == 0
    assert "--label-noise" in shown.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [("active-learning d", ["demo", "disconnect", "doctor"]), ("active-learning queue --li", ["--limit"])],
)
def test_shell_completion(words: str, expected: list[str]) -> None:
    completing = {
        "_ACTIVE_LEARNING_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    seen = subprocess.run([PROGRAM], env=os.environ | completing, capture_output=True, text=True, check=False)
    assert seen.stdout.split() == expected


@pytest.mark.parametrize(
    "arguments", [["queues"], ["queue"], ["queue", "--project", "three"], ["doctor", "--jason"]]
)
def test_wrong_usage_is_exit_code_2(run: Run, arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize("command", ["status", "rounds", "queue", "disconnect"])
def test_a_project_that_is_not_connected(run: Run, command: str) -> None:
    for as_json in ([], ["--json"]):
        ended = run(command, "--project", "7", *as_json)
        assert ended.exit_code == 1
        assert ended.stdout == ""
        assert "Project 7 is not connected here. `active-learning connect --project 7`" in ended.stderr


def test_rounds(run: Run, deployment: Deployment) -> None:
    shown = run("rounds", "--project", "3").stdout
    assert "1 done" in shown
    assert "90.0% (80% to 95%)" in shown
    assert shown.index("10 new labels") < shown.index("the project was connected")
    facts = json.loads(run("rounds", "--project", "3", "--limit", "1", "--json").stdout)
    assert facts["project"] == 3
    (newest,) = facts["rounds"]
    assert (newest["number"], newest["labels"], newest["seconds"]) == (1, 10, {"sync": 0.25, "fit": 1.5})
    assert newest["measured"] == {
        "kind": {"metric": "accuracy", "score": 0.9, "interval": [0.8, 0.95], "total": 40}
    }


@pytest.mark.parametrize("columns", [60, 80, 160])
def test_the_queue_holds_what_nobody_has_labeled_and_nothing_of_it_is_cut(
    run: Run, deployment: Deployment, columns: int
) -> None:
    shown = run("queue", "--project", "3", columns=columns).stdout
    assert "#1 " not in shown
    assert max(map(len, shown.splitlines())) <= columns
    assert column(shown, "Chosen").count(REASON) == 3
    assert "2 in the window, 1 in reserve" in told(shown)


def test_the_queue_in_json(run: Run, deployment: Deployment) -> None:
    facts = json.loads(run("queue", "--project", "3", "--json", "--limit", "2").stdout)
    assert facts == {"project": 3, **queue_facts(deployment, 3, 2)}
    assert (facts["waiting"], facts["reserve"]) == (2, 1)
    first, second = facts["tasks"]
    assert first == {
        "rank": 1,
        "task": 2,
        "published": True,
        "score": 0.5,
        "prediction": {"confidence": 0.61, "labels": {"shirt [new]": 1}},
        "reason": REASON,
    }
    assert second["task"] == 3


def test_status_in_json_tells_facts_where_label_studio_is_down(run: Run, deployment: Deployment) -> None:
    (facts,) = json.loads(run("status", "--json").stdout)["projects"]
    assert (facts["project"], facts["title"], facts["state"]) == (3, "Clothes [2026]", "active")
    assert (facts["round"]["number"], facts["round"]["state"], facts["labels"]) == (1, "done", 10)
    assert facts["measured"]["kind"]["interval"] == [0.8, 0.95]
    assert (facts["labels_waiting"], facts["window"], facts["reserve"]) == (0, 2, 1)
    assert any("cannot be reached" in sentence for sentence in facts["sentences"])


HOSTILE = "a\x1b]0;owned\x07\x9b2J\r\u202eb [red]"


@pytest.mark.parametrize("command", ["status", "rounds", "queue", "doctor"])
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["in words", "in JSON"])
def test_what_others_wrote_cannot_drive_the_terminal(
    run: Run, deployment: Deployment, command: str, options: list[str]
) -> None:
    with deployment.database.write() as session:
        session.get_one(Project, 3).title = HOSTILE
        session.execute(update(QueueEntry).values(reason=HOSTILE))
        session.execute(update(Round).values(reason=HOSTILE))
    shown = run(command, "--project", "3", *options, columns=160).stdout
    assert "\\u001b]0;owned\\u0007\\u009b2J\\r\\u202eb [red]" in shown
    assert [sign for sign in shown if not sign.isprintable() and sign != "\n"] == []


def test_nor_can_what_an_error_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        fail(f"Project {HOSTILE} cannot be connected.\nIt is gone.")
    told = capsys.readouterr().err
    assert told.endswith(" [red] cannot be connected.\nIt is gone.\n")
    assert [sign for sign in told if not sign.isprintable() and sign != "\n"] == []


def test_strategies(run: Run) -> None:
    listed = json.loads(run("strategies", "--json").stdout)["strategies"]
    assert sorted(entry["name"] for entry in listed) == strategy_names()
    shown = run("strategies").stdout
    for entry in listed:
        assert f"{entry['name']} " in shown
        assert entry["meaning"].split()[0] in shown
    families = {entry["name"]: entry["family"] for entry in listed}
    assert (families["badge"], families["margin"]) == ("Expected model change", "Uncertainty")


def test_the_defaults_that_are_listed_are_the_strategies_own(run: Run) -> None:
    listed = json.loads(run("strategies", "--json").stdout)["strategies"]
    for entry in listed:
        defaults = {one["name"]: one["default"] for one in entry["parameters"]}
        if any(one["needed"] for one in entry["parameters"]):
            continue
        assert STRATEGIES.make({entry["name"]: defaults}) == STRATEGIES.make(entry["name"]), entry["name"]


@pytest.mark.parametrize("name", ["BASIC_AUTH_USER", "BASIC_AUTH_PASS"])
def test_a_server_that_would_ask_nobody_for_a_password_does_not_start(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "us")
    ended = run("serve")
    assert ended.exit_code == 1
    assert "set both, or neither" in " ".join(ended.stderr.split())


def test_the_server_and_the_worker_import_nothing_slow_before_they_need_it() -> None:
    slow = {
        "lance",
        "matplotlib",
        "pyarrow",
        "ray",
        "segmentation_models_pytorch",
        "sklearn",
        "timm",
        "torchvision",
    }
    program = f"import sys, backend.app, backend.loop.jobs; print(*{slow} & sys.modules.keys())"
    seen = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert seen.stdout.split() == []


def test_what_the_server_loads_before_it_forks_starts_no_thread() -> None:
    program = "import os, backend.app; print(len(os.listdir('/proc/self/task')))"
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # its threads survive a fork
    seen = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    assert seen.stdout.strip() == "1"
