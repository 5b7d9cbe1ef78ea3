"""`active-learning simulate`, on scikit-learn's digits."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from typer.testing import CliRunner, Result

from backend.cli import app
from backend.simulation.command import split_specs

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DIVERSE = "{filter_then_diversify: {filter: entropy, diversify: k_center_greedy, keep: 2}}"
OPTIONS = ["--batch", "10", "--budget", "40", "--seeds", "2", "--limit", "300", "--members", "2"]
OPTIONS += ["--embedding", "self-supervised"]
OPTIONS += ["--imbalance", "3", "--duplicates", "0.3", "--redundancy", "2", "--label-noise", "0.1"]
RUNS = 2 * 2  # strategies × seeds
ROUNDS = 4


def arguments(out: Path, *more: str) -> list[str]:
    return ["simulate", "digits", "--strategies", DIVERSE, *OPTIONS, "--out", str(out), *more]


def simulate(*command: str) -> Result:
    return CliRunner().invoke(app, list(command))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A simulation that ran through, and what was on the terminal."""
    out = tmp_path_factory.mktemp("simulation") / "out"
    return out, simulate(*arguments(out, "--stopping", "{budget: 30},low_uncertainty"))


def test_a_simulation_prints_its_table_and_writes_its_files(finished: tuple[Path, Result]) -> None:
    out, result = finished
    assert result.exit_code == 0, result.output
    assert "images to label, 75 to test on, seeds: 2" in " ".join(result.output.split())
    assert "Written to" in result.output
    for name in ("random", "filter_then"):
        assert name in result.output
    assert Image.open(out / "curves.png").size == (1425, 825)


def test_the_curves_hold_every_run(finished: tuple[Path, Result]) -> None:
    found = json.loads((finished[0] / "curves.json").read_text())
    assert [(run["strategy"], run["seed"]) for run in found["runs"]] == [
        (strategy, seed) for strategy in ("random", DIVERSE) for seed in (0, 1)
    ]
    for run in found["runs"]:
        assert run["labels"] == [10, 20, 30, 40]
        assert len(run["scores"]) == len(run["select_seconds"]) == len(run["log_losses"]) == ROUNDS
        assert run["scores"][-1] > run["scores"][0]
    assert set(found["full_data"]) == {"0", "1"}
    assert all(score > 0.9 for score in found["full_data"].values())
    summary = found["summary"]
    assert summary[0]["verdict"] == "baseline"
    assert [target["share"] for target in summary[1]["targets"]] == [0.9, 0.95, 0.99]
    assert summary[1]["area"]["low"] < summary[1]["area"]["mean"] < summary[1]["area"]["high"]
    stopping = {(point["criterion"], point["strategy"]): point for point in found["stopping"]}
    assert stopping["{budget: 30}", DIVERSE]["labels"] == 30
    assert stopping["{budget: 30}", DIVERSE]["stopped"] == 2


def test_hard_cases_are_embedded_and_told(finished: tuple[Path, Result]) -> None:
    facts = json.loads((finished[0] / "curves.json").read_text())["facts"]
    assert facts["hard_cases"] == {"imbalance": 3, "duplicates": 0.3, "redundancy": 2, "label-noise": 0.1}
    assert facts["pool"] == sum(facts["classes"].values()) < 2 * 225
    embedded = json.loads(next(finished[0].glob("embeddings-*.json")).read_text())["done"]
    # All images come up with one seed or the other, and copies beside them, once each; exact copies cost nothing.
    copies = 0.3 * facts["pool"] / 2
    assert 300 + copies / 2 < embedded < 300 + 2 * copies


def test_the_same_command_again_computes_nothing_anew(finished: tuple[Path, Result]) -> None:
    out, _ = finished
    before = {path: path.read_bytes() for path in (out / "runs").iterdir()}
    started = time.time()
    result = simulate(*arguments(out))
    assert result.exit_code == 0, result.output
    assert {path: path.read_bytes() for path in (out / "runs").iterdir()} == before
    assert all(path.stat().st_mtime < started for path in before)
    assert "plateau" in (out / "report.html").read_text()  # other criteria are asked of the same runs


def test_a_changed_command_is_refused(finished: tuple[Path, Result]) -> None:
    result = simulate(*arguments(finished[0], "--batch", "25", "--label-noise", "0.2"))
    assert result.exit_code == 1
    assert "batch was 10, and is now 25; label-noise was 0.1, and is now 0.2." in result.stderr
    assert "Choose another --out" in result.stderr


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["digits", "--strategies", "margn"], "There is no strategy 'margn'. Did you mean margin?"),
        (["digits", "--strategies", "{mixture: {shares: [1]}}"], "mixture needs the parameter strategies"),
        (["digits", "--strategies", "regions"], "The strategy regions needs units"),
        (["digits", "--cold-start", "margin"], "cold-start is margin, which needs a learner"),
        (["digits", "--stopping", "whenever"], "There is no stopping criterion 'whenever'"),
        (["digits", "--batch", "50", "--budget", "20"], "batch is 50 and budget 20"),
        (["digits", "--duplicates", "1.5"], "duplicates is 1.5; write a share"),
        (["digits", "--strategies", "{quotas: {over: weather}}"], "cannot rank digits: This strategy needs"),
        (["no such folder"], "There is no no such folder"),
    ],
)
def test_what_cannot_be_done_is_told_before_any_work(
    tmp_path: Path, command: list[str], message: str
) -> None:
    result = simulate("simulate", *command, "--out", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.timeout(900)  # several processes that import much, on a machine that may be busy
def test_ctrl_c_loses_at_most_a_round(finished: tuple[Path, Result], tmp_path: Path) -> None:
    whole = finished[0]
    for attempt in range(5):  # on a busy machine, it may be done before we look
        out = with_embeddings_of(whole, tmp_path / f"out-{attempt}")
        process = start(out)
        wait_until(lambda o=out: rounds_done(o) >= 1)
        os.killpg(process.pid, signal.SIGSTOP)  # so that it does not end meanwhile
        if rounds_done(out) < RUNS * ROUNDS:
            break
        os.killpg(process.pid, signal.SIGCONT)
        process.communicate(timeout=180)
    press_ctrl_c(process)
    assert 1 <= rounds_done(out) < RUNS * ROUNDS
    kept = runs(out)
    result = simulate(*arguments(out))
    assert result.exit_code == 0, result.output
    for name, rounds in runs(whole).items():
        assert untimed(runs(out)[name]) == untimed(rounds)
        assert runs(out)[name][: len(kept.get(name, []))] == kept.get(name, [])  # not done a second time
    curves = [json.loads((folder / "curves.json").read_text()) for folder in (whole, out)]
    assert curves[0]["full_data"] == curves[1]["full_data"]


def start(out: Path) -> "subprocess.Popen[str]":
    """The command in a process group of its own, as a shell starts it."""
    executable = str(Path(sys.executable).parent / "active-learning")
    return subprocess.Popen(
        [executable, *arguments(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def press_ctrl_c(process: "subprocess.Popen[str]") -> None:
    """What a terminal sends to all of the group, which was stopped."""
    os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGCONT)
    told, complained = process.communicate(timeout=30)
    assert process.returncode == 130, complained
    assert "Stopped. The same command resumes." in told
    assert complained == ""
    wait_until(lambda: not group_exists(process.pid))


def group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(holds: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def with_embeddings_of(source: Path, out: Path) -> Path:
    """A new folder in which the embedder is trained already."""
    out.mkdir()
    for path in source.iterdir():
        if path.name.startswith("embeddings-"):
            shutil.copy(path, out)
    shutil.copytree(source / "embedder", out / "embedder")
    return out


def runs(out: Path) -> dict[str, list[dict[str, Any]]]:
    return {
        path.name: [json.loads(line) for line in path.read_text().splitlines()]
        for path in sorted((out / "runs").glob("*.jsonl"))
    }


def rounds_done(out: Path) -> int:
    return sum(path.read_text().count("\n") for path in (out / "runs").glob("*.jsonl"))


def untimed(rounds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in r.items() if not name.endswith("_seconds")} for r in rounds]


@pytest.fixture
def page() -> Iterator[Page]:
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have Chromium")
        pytest.skip("no Chromium on this machine: install it to run the browser tests")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 1200, "height": 900})
        browser.close()


def test_the_report_is_one_page_that_a_browser_shows_in_light_and_dark(
    finished: tuple[Path, Result], page: Page
) -> None:
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    address = (finished[0] / "report.html").as_uri()
    page.goto(address)
    assert page.locator("h1").inner_text() == "digits: what active learning saves"
    assert page.locator("svg").count() == 2
    legend = page.locator("svg").first.locator("text").all_text_contents()
    assert {"random", "all data", "95% of it"} <= set(legend)
    strategies = page.locator("table").first.locator("tbody tr td:first-child").all_inner_texts()
    assert strategies == ["random", DIVERSE]
    assert page.locator("pre").inner_text() == shlex.join(["active-learning", *sys.argv[1:]])
    grounds = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        ground, ink, axis = page.evaluate(
            """() => [
              getComputedStyle(document.body).backgroundColor,
              getComputedStyle(document.body).color,
              getComputedStyle(document.querySelector("svg text")).fill,
            ]"""
        )
        assert axis == ink != ground
        grounds[scheme] = ground
        if "SCREENSHOT" in os.environ:
            page.screenshot(path=f"{os.environ['SCREENSHOT']}-{scheme}.png", full_page=True)
    assert grounds["light"] != grounds["dark"]
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390  # wide tables scroll by themselves
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [address]


def test_specs_are_divided_at_commas_outside_of_braces_brackets_and_quotes() -> None:
    assert split_specs("margin, bald") == ("margin", "bald")
    assert split_specs("{mixture: {strategies: [margin, bald], shares: [1, 2]}},random") == (
        "{mixture: {strategies: [margin, bald], shares: [1, 2]}}",
        "random",
    )
    assert split_specs("""{"a": "},"},b,""") == ("""{"a": "},"}""", "b")
