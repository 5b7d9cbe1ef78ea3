"""What a person sees: Label Studio in a real browser, with the loop behind it."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.conftest import DigitsProject
from tests.end_to_end.running_loop import RunningLoop, digits_config, wait_for
from tests.end_to_end.test_closed_loop import FAST, label

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@contextmanager
def open_page(*arguments: str) -> Iterator[Page]:
    """A page in a browser of its own; CI must have one, elsewhere its absence skips the test."""
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have Chromium")
        pytest.skip("no Chromium on this machine: install it to run the browser tests")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *arguments])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with open_page() as page:
        yield page


@pytest.fixture
def logged_in(page: Page, loop: RunningLoop) -> Page:
    page.goto(f"{loop.label_studio.url}/user/login/")
    if page.locator("input[name=email]").count():
        page.fill("input[name=email]", loop.label_studio.email)
        page.fill("input[name=password]", loop.label_studio.password)
        page.click("button[type=submit]")
        page.wait_for_url(lambda url: "/user/login" not in url, wait_until="commit")
    return page


def test_an_annotator_sees_the_prediction_submits_and_gets_the_next_of_the_ranking(
    logged_in: Page, loop: RunningLoop, make_project: Callable[..., DigitsProject]
) -> None:
    project = make_project(40, label_config=digits_config(**FAST))
    loop.connect(project.id)
    loop.wait_for_round(project.id, 0)
    annotator = loop.annotator(project.id)
    for task_id in loop.queue(project.id)[:8]:
        label(annotator, project, task_id)
    loop.wait_for_round(project.id, 1)
    queue = loop.queue(project.id)
    predicted = {task_id: loop.predicted_choice(project.id, task_id) for task_id in queue[:3]}

    logged_in.goto(f"{loop.label_studio.url}/projects/{project.id}/data", wait_until="domcontentloaded")
    button = logged_in.get_by_role("button", name="Label All Tasks")
    for task_id in queue[:3]:
        with logged_in.expect_response(lambda response: "id=next_task" in response.url) as asked:
            button.click()  # that of the page before: "Label All Tasks", then "Submit"
        assert asked.value.json()["id"] == task_id
        expect(logged_in.locator(f'input[name="{predicted[task_id][0]}"]')).to_be_checked()
        expect(logged_in.get_by_role("checkbox", checked=True)).to_have_count(1)
        if "SCREENSHOT" in os.environ:
            logged_in.screenshot(path=os.environ["SCREENSHOT"])
        button = logged_in.get_by_test_id("bottombar-submit-button")
    button.click()
    last = queue[2]
    wait_for(f"the answer to task {last}", lambda: is_answered(loop, project.id, last) or None)
    answered = {task.id: task for task in loop.client.tasks(project.id) if task.annotations}
    for task_id in queue[:3]:  # the prediction was submitted as it stood
        chosen = answered[task_id].annotations[0]["result"][0]["value"]["choices"]
        assert chosen == predicted[task_id]


def is_answered(loop: RunningLoop, project_id: int, task_id: int) -> bool:
    task = loop.task(project_id, task_id)
    return task is not None and (task.touched or task.target is not None)
