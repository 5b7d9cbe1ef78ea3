"""The dashboard as people see it: a real browser, on a live loop."""

import csv
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import ConsoleMessage, Page, expect
from sqlalchemy import select, update

from backend.store.artifacts import models
from backend.store.tables import QueueEntry, Round, RoundState
from tests.conftest import DigitsProject
from tests.end_to_end.running_loop import RunningLoop, digits_config, wait_for
from tests.end_to_end.test_browser import page
from tests.end_to_end.test_closed_loop import FAST, label

__all__ = ["page"]  # a fixture

PAGES = {
    "projects": "/",
    "overview": "",
    "queue": "/queue",
    "map": "/map",
    "labels": "/labels",
    "rounds": "/rounds",
    "settings": "/settings",
}
VIEWS = (("light", 1280), ("dark", 1280), ("dark", 400))


@pytest.fixture(scope="module")
def project(loop: RunningLoop, make_project: Callable[..., DigitsProject]) -> DigitsProject:
    """A project with three rounds behind it."""
    project = make_project(60, title="Digits <b>", label_config=digits_config(**FAST, audit_share=0.3))
    loop.connect(project.id)
    loop.wait_for_round(project.id, 0)
    annotator = loop.annotator(project.id)
    for number in range(2):
        for task_id in loop.queue(project.id)[:8]:
            label(annotator, project, task_id)
        loop.wait_for_round(project.id, number + 1)
    return project


@pytest.fixture
def errors(page: Page) -> Iterator[list[str]]:
    """What the browser's console complains of; a test fails where there is any."""
    found: list[str] = []

    def note(message: ConsoleMessage) -> None:
        # The driver's own remarks on its speed are no complaint about the page.
        if message.type in ("error", "warning") and "GL Driver Message" not in message.text:
            found.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: found.append(str(error)))
    yield found
    page.remove_listener("console", note)
    assert found == []


def address(loop: RunningLoop, project: DigitsProject, name: str) -> str:
    return loop.processes.url + ("/" if name == "projects" else f"/projects/{project.id}{PAGES[name]}")


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_accessible_in_both_themes_and_on_a_phone(
    page: Page, loop: RunningLoop, project: DigitsProject, errors: list[str], name: str
) -> None:
    for scheme, width in VIEWS:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(address(loop, project, name), wait_until="networkidle" if name == "overview" else "load")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"
        found = Axe().run(page).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"{name}-{scheme}-{width}.png", full_page=True)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 900})


def test_the_overview_draws_the_curve_and_follows_the_loop(
    page: Page, loop: RunningLoop, project: DigitsProject, errors: list[str]
) -> None:
    page.goto(address(loop, project, "overview"))
    expect(page.get_by_role("heading", name="Digits <b>")).to_be_visible()
    expect(page.locator(".chart canvas")).to_be_visible()
    expect(page.locator(".chart .u-legend")).to_contain_text("the loop")
    number = loop.served(project.id).number
    expect(page.locator("#state")).to_contain_text(f"Round {number} is done")
    page.get_by_role("button", name="Start a round").click()
    # By itself: the page is not loaded by hand.
    expect(page.locator("#state")).to_contain_text(f"Round {number + 1} is done")


def test_the_queue_shows_what_annotators_get_next(
    page: Page, loop: RunningLoop, project: DigitsProject, errors: list[str]
) -> None:
    page.goto(address(loop, project, "queue"))
    tiles = page.locator(".thumbnails li")
    for place, task_id in enumerate(loop.queue(project.id)[:3]):
        expect(tiles.nth(place)).to_contain_text(f"task {task_id}")
        expect(tiles.nth(place).locator(".prediction")).to_contain_text("%")
        width = wait_for(
            "the picture",
            lambda place=place: tiles.nth(place).locator("img").evaluate("i => i.naturalWidth") or None,
        )
        assert width == 32
        link = tiles.nth(place).locator("a").get_attribute("href")
        assert link == f"{loop.label_studio.url}/projects/{project.id}/data?task={task_id}"


def test_pausing_stops_rounds_but_not_labels_and_resuming_makes_good(
    page: Page, loop: RunningLoop, project: DigitsProject, errors: list[str]
) -> None:
    page.goto(address(loop, project, "overview"))
    before = loop.served(project.id)
    page.get_by_role("button", name="Pause the loop").click()
    expect(page.locator("#state")).to_contain_text("The loop is paused")
    annotator = loop.annotator(project.id)
    for task_id in loop.queue(project.id)[:9]:
        label(annotator, project, task_id)
    expect(page.locator("#state")).to_contain_text("(9 since)")
    assert loop.latest(project.id).number == before.number
    page.get_by_role("button", name="Resume the loop").click()
    after = loop.wait_for_round(project.id, before.number + 1)
    assert after.facts["labels"] == before.facts["labels"] + 9
    expect(page.locator("#state")).to_contain_text(f"Round {after.number} is done")


def test_settings_are_previewed_saved_and_taken_back(
    page: Page, loop: RunningLoop, project: DigitsProject, errors: list[str]
) -> None:
    page.goto(address(loop, project, "settings"))
    before = loop.served(project.id)
    page.fill("#strategy", "margin")
    page.get_by_role("button", name="Preview the queue").click()
    previewed = page.locator("#preview .thumbnails li")
    expect(previewed.first).to_be_visible()
    assert "like much" in tile_of_the_default(loop, project)  # which that strategy does not regard
    assert not [text for text in previewed.all_inner_texts() if "like much" in text]
    assert loop.served(project.id).id == before.id  # nothing was published
    titles = previewed.locator("span").all_inner_texts()
    shown = [int(title.split(",")[0].removeprefix("task ")) for title in titles if title.startswith("task ")]
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_contain_text("Saved: strategy")
    after = loop.wait_for_round(project.id, before.number + 1)
    assert after.number == before.number + 1
    assert after.reason == "the settings were changed"
    assert learned_by(after) == "margin"
    published = [
        task_id
        for task_id in loop.queue(project.id)
        if (task := loop.task(project.id, task_id)) and not task.audit
    ]
    assert len(shown) >= 8
    assert published[:8] == shown[:8]
    page.goto(address(loop, project, "settings"))
    page.fill("#strategy", "")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_contain_text("Saved: strategy")
    assert learned_by(loop.wait_for_round(project.id, after.number + 1)) == "default"


def tile_of_the_default(loop: RunningLoop, project: DigitsProject) -> str:
    with loop.deployment.database.read() as session:
        entries = select(QueueEntry.reason).where(QueueEntry.round_id == loop.served(project.id).id)
        return " ".join(session.scalars(entries))


def learned_by(done: object) -> object:
    (facts,) = done.facts["controls"].values()  # type: ignore[attr-defined]
    return facts["strategy"]


def test_a_wrong_setting_says_what_exists(page: Page, loop: RunningLoop, project: DigitsProject) -> None:
    page.goto(address(loop, project, "settings"))
    page.fill("#strategy", "bogus")
    page.get_by_role("button", name="Preview the queue").click()
    expect(page.locator("#preview .message")).to_contain_text("bogus")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("margin")


def test_going_back_serves_the_earlier_model_and_pauses(
    page: Page, loop: RunningLoop, project: DigitsProject, errors: list[str]
) -> None:
    page.goto(address(loop, project, "rounds"))
    page.locator("details").first.click()
    expect(page.locator("details pre").first).to_contain_text("fit took")
    before = loop.served(project.id)
    page.get_by_role("button", name="Go back to it").first.click()
    after = loop.wait_for_round(project.id, before.number + 1)
    expect(page.locator("#state")).to_contain_text("The loop is paused")
    earlier = before.number - 1
    assert after.reason == f"someone went back to the model of round {earlier}"
    folder = loop.deployment.settings.model_dir / models(project.id)
    taken = next(folder.glob(f"round-{earlier}-*"))
    for file in (path for path in taken.rglob("*") if path.is_file()):
        if "opinions" not in file.name:
            assert (folder / after.version / file.relative_to(taken)).read_bytes() == file.read_bytes()
    assert loop.client.project(project.id).model_version == after.version
    page.get_by_role("button", name="Resume the loop").click()


def test_an_open_log_grows_while_its_round_runs(
    page: Page, loop: RunningLoop, project: DigitsProject, errors: list[str]
) -> None:
    def write(**values: object) -> None:  # the worker looks at the latest round alone
        with loop.deployment.database.write() as session:
            first = update(Round).where(Round.project_id == project.id, Round.number == 0)
            session.execute(first.values(**values))

    write(state=RoundState.RUNNING, log="sync took 1 s")
    page.goto(address(loop, project, "rounds"))
    page.locator("details").last.click()
    log = page.locator("details").last.locator("pre")
    expect(log).to_have_text("sync took 1 s")
    row = page.locator("#rounds tbody tr").last
    expect(row).to_contain_text("Running, step")
    write(log="sync took 1 s\nfit took 2 s")
    expect(log).to_contain_text("fit took 2 s")
    write(state=RoundState.DONE, log="sync took 1 s\nfit took 2 s\npublish took 3 s")
    expect(log).to_contain_text("publish took 3 s")
    expect(row).to_contain_text("Done")
    expect(row).not_to_contain_text("Running")
    write(log="sync took 1 s")
    page.wait_for_timeout(4_500)
    expect(log).to_contain_text("publish took 3 s")  # it asks no more
    write(log="sync took 1 s\nfit took 2 s\npublish took 3 s")


def test_the_labeled_set_is_downloaded(
    page: Page, loop: RunningLoop, project: DigitsProject, errors: list[str]
) -> None:
    page.goto(address(loop, project, "overview"))
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the labeled set").click()
    rows = list(csv.DictReader(download.value.path().read_text().splitlines()))
    assert {int(row["task"]): row["labels"] for row in rows} == {
        task_id: next(iter(votes)) for task_id, votes in loop.targets(project.id).items()
    }


def test_pages_are_reached_by_keyboard(
    page: Page, loop: RunningLoop, project: DigitsProject, errors: list[str]
) -> None:
    page.goto(address(loop, project, "projects"))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    for _ in range(300):  # however many projects are listed before it
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('href')") == f"/projects/{project.id}":
            break
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/projects/{project.id}")
