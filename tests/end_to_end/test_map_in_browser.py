"""The embedding map of a live loop, in a real browser."""

import io
import os
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from backend.loop.projection import current_map
from tests.conftest import DigitsProject
from tests.dashboard.points import read_points
from tests.end_to_end.running_loop import RunningLoop, digits_config, wait_for
from tests.end_to_end.test_browser import open_page
from tests.end_to_end.test_closed_loop import FAST, label

DRAWN_BY_THE_PROCESSOR = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
LABELED = (0x1A, 0x7F, 0x37)  # --map-labeled, in light and in dark
LABELED_IN_THE_DARK = (0x56, 0xD3, 0x64)


@pytest.fixture
def page() -> Iterator[Page]:
    with open_page(*DRAWN_BY_THE_PROCESSOR) as page:
        page.set_viewport_size({"width": 1300, "height": 1200})
        page.emulate_media(color_scheme="light")
        yield page


def share_of(page: Page, colour: tuple[int, int, int]) -> float:
    """The share of the map's pixels that are about of a colour."""
    picture = Image.open(io.BytesIO(page.locator("canvas").screenshot())).convert("RGB")
    return float((np.abs(np.asarray(picture).astype(int) - colour).max(axis=2) < 24).mean())


def test_points_are_drawn_hovered_and_chosen_and_label_studio_shows_the_chosen_ones(
    page: Page, loop: RunningLoop, make_project: Callable[..., DigitsProject]
) -> None:
    project = make_project(60, label_config=digits_config(**FAST))
    loop.connect(project.id)
    loop.wait_for_round(project.id, 0)
    annotator = loop.annotator(project.id)
    for task_id in loop.queue(project.id)[:10]:
        label(annotator, project, task_id)
    loop.wait_for_round(project.id, 1)
    wait_for("the map", lambda: current_map(loop.deployment, project.id))

    problems: list[str] = []
    page.on("console", lambda told: problems.append(told.text) if told.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    url = f"{loop.processes.url}/projects/{project.id}/map"
    page.goto(url)
    canvas = page.locator("canvas[data-drawn='60']")
    expect(canvas).to_be_visible()
    points = read_points(httpx.get(f"{url}/points", trust_env=False).raise_for_status().content)
    assert sorted(points.ids.tolist()) == sorted(project.digits)
    counts = page.locator("[data-count]").all_inner_texts()
    assert [int(count) for count in counts] == points.counts
    assert sum(points.counts[2:]) >= 10
    assert (points.uncertainty[points.kinds == 0] < 255).any(), "the committee was asked about the pool"

    wait_for("points in the colour of labeled ones", lambda: share_of(page, LABELED) > 0.0001)
    page.emulate_media(color_scheme="dark")
    wait_for("the same in the dark", lambda: share_of(page, LABELED_IN_THE_DARK) > 0.0001)
    page.locator("[data-kind='labeled']").uncheck()
    page.locator("[data-kind='audit']").uncheck()
    wait_for("labeled ones to be gone", lambda: share_of(page, LABELED_IN_THE_DARK) == 0)
    page.locator("[data-kind='labeled']").check()
    page.locator("[data-kind='audit']").check()
    expect(canvas).to_be_visible()

    box = canvas.bounding_box()
    assert box is not None
    across = box["x"] + box["width"] / 2 + points.x * box["height"] / 2
    down = box["y"] + box["height"] / 2 - points.y * box["height"] / 2
    # The point that lies farthest from all others: under the pointer there is no other.
    apart = np.hypot(across[:, None] - across, down[:, None] - down) + np.where(np.eye(60), np.inf, 0)
    lonely = int(apart.min(axis=1).argmax())
    there = float(across[lonely]), float(down[lonely])
    page.mouse.move(there[0] - 1, there[1])
    page.mouse.move(*there, steps=3)
    card = page.locator(".map-card")
    expect(card).to_contain_text(f"Task {points.ids[lonely]}")
    loaded = "image => image.complete && image.naturalWidth > 0"
    wait_for("the thumbnail", lambda: card.locator("img").evaluate(loaded))
    page.mouse.click(*there)
    expect(page.locator(".map-pinned")).to_contain_text(f"Task {points.ids[lonely]}")
    page.get_by_role("button", name="Close").click()

    # A line around the left part, up to the widest gap near the middle, so that no point is on it.
    order = np.sort(across)
    gaps = np.diff(order)[20:40]
    border = float(order[20:40][gaps.argmax()] + gaps.max() / 2)
    left, top, bottom = box["x"] + 4, box["y"] + 4, box["y"] + box["height"] - 4
    page.keyboard.down("Shift")
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((border, top), (border, bottom), (left, bottom), (left, top + 3)):
        page.mouse.move(x, y, steps=10)
    page.mouse.up()
    page.keyboard.up("Shift")
    expected = sorted(points.ids[across < border].tolist())
    expect(page.locator("#chosen h2")).to_have_text(f"{len(expected)} tasks chosen")
    assert page.get_by_label("Ids of the chosen tasks").input_value() == ",".join(map(str, expected))
    expect(page.locator("#chosen li")).to_have_count(min(50, len(expected)))
    link = page.locator("#chosen").get_by_role("link", name="Open in Label Studio")
    address = link.get_attribute("href")
    if "SCREENSHOT" in os.environ:
        page.screenshot(path=os.environ["SCREENSHOT"], full_page=True)
    assert problems == []

    log_in(page, loop)
    with page.expect_response(
        lambda response: "/api/tasks" in response.url and "query=" in response.url
    ) as asked:
        page.goto(f"{loop.processes.url}{address}", wait_until="domcontentloaded")
    shown = asked.value.json()
    assert sorted(task["id"] for task in shown["tasks"]) == expected[: len(shown["tasks"])]
    assert shown["total"] == len(expected)
    assert "tab" in parse_qs(urlsplit(page.url).query)


def log_in(page: Page, loop: RunningLoop) -> None:
    page.goto(f"{loop.label_studio.url}/user/login/")
    page.fill("input[name=email]", loop.label_studio.email)
    page.fill("input[name=password]", loop.label_studio.password)
    page.click("button[type=submit]")
    page.wait_for_url(lambda url: "/user/login" not in url, wait_until="commit")
