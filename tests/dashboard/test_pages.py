"""The pages without a server behind them: what they show of a store, and what they refuse."""

import base64
import csv
import io
import json
import re
from pathlib import Path

import pytest
from sqlalchemy import select

from backend.store.tables import Event, Project, ProjectState, Round, RoundState, Task, now
from tests.dashboard.stored_loop import StoredLoop

PAGES = ("", "/queue", "/labels", "/rounds", "/settings")


def test_the_list_tells_each_project_s_state_labels_and_score(loop: StoredLoop) -> None:
    shown = loop.text("/")
    assert "Cats &amp; &lt;dogs&gt;" in shown  # never as markup
    assert "The next round starts after 10 more labels" in shown
    assert "90.0%" in shown
    assert ">20<" in shown


@pytest.mark.parametrize("path", PAGES)
def test_every_page_loads_from_here_only(loop: StoredLoop, path: str) -> None:
    answer = loop.client.get(f"/projects/3{path}")
    assert answer.status_code == 200
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "//" not in policy
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", PAGES)
def test_a_project_that_is_not_connected_is_told_how_to_be(loop: StoredLoop, path: str) -> None:
    answer = loop.client.get(f"/projects/4{path}")
    assert answer.status_code == 404
    assert "active-learning connect --project 4" in answer.text


def test_the_overview_shows_curve_balance_and_what_was_learned(loop: StoredLoop) -> None:
    shown = loop.text("/projects/3")
    assert "<strong>90.0%</strong> (70.0 to 90.0%) after 20 labels" in shown
    assert "The model was trained on 16 labels" in shown
    assert '<th scope="row">dog</th><td class="number">4</td><td class="number">30</td>' in shown
    assert '<th scope="row">sunny</th><td class="number">14</td><td class="number">26</td>' in shown
    assert loop.client.get("/projects/3/curves").json == [
        {
            "control": "kind",
            "metric": "accuracy",
            "points": [
                {"round": 1, "labels": 10, "score": 0.75, "low": 0.6, "high": 0.9, "tasks": 20},
                {"round": 2, "labels": 20, "score": 0.9, "low": 0.7, "high": 0.9, "tasks": 20},
            ],
            "random_order": None,
        }
    ]


def test_a_running_round_tells_how_far_it_is(loop: StoredLoop) -> None:
    with loop.database.write() as session:
        session.add(
            Round(project_id=3, number=3, version="v", reason="someone asked", step="score", started_at=now())
        )
    assert "was interrupted at the step score" in loop.text("/projects/3/state")  # no worker holds it
    with loop.database.write() as session:
        running = session.scalars(select(Round).where(Round.number == 3)).one()
        running.state = RoundState.WAITING
        running.error = "Label Studio does not answer"
    assert "No label is lost; the old queue stays." in loop.text("/projects/3/state")


def test_a_new_round_has_the_open_page_load_anew(loop: StoredLoop) -> None:
    with loop.database.read() as session:
        served = session.get_one(Project, 3).published_round
    same = loop.client.get(f"/projects/3/state?served={served}")
    assert (same.status_code, same.headers.get("HX-Refresh")) == (200, None)
    other = loop.client.get(f"/projects/3/state?served={(served or 0) - 1}")
    assert (other.status_code, other.headers.get("HX-Refresh")) == (204, "true")


def test_the_queue_is_shown_in_order_with_reasons_and_predictions(loop: StoredLoop) -> None:
    shown = loop.text("/projects/3/queue")
    assert shown.index("Reason of 21") < shown.index("Reason of 22") < shown.index("Reason of 60")
    assert "dog (61%)" in shown
    assert shown.count("in reserve</span>") == 10
    assert 'href="http://127.0.0.1:9/projects/3/data?task=21"' in shown
    loop.change(Task, (3, 21), touched=True)  # labeled a moment ago
    assert "Reason of 21" not in loop.text("/projects/3/queue")


def test_links_lead_to_label_studio_as_browsers_reach_it(tmp_path: Path) -> None:
    loop = StoredLoop(tmp_path, label_studio_public_url="https://labels.example.com/")
    for page in ("/projects/3/queue", "/projects/3/tasks/21/card"):
        assert 'href="https://labels.example.com/projects/3/data?task=21"' in loop.text(page)
    opened = loop.client.get("/projects/3/map/open?tasks=21").headers["Location"]
    assert opened.startswith("https://labels.example.com/projects/3/data?tab=")


def test_what_is_wrong_with_labels_and_images_is_listed(loop: StoredLoop) -> None:
    loop.change(Task, (3, 30), broken="The image 30.png is no image.")
    shown = loop.text("/projects/3/labels")
    assert "The image 30.png is no image." in shown
    assert "Task 7" in shown


def test_rounds_tell_their_durations_and_logs(loop: StoredLoop) -> None:
    shown = loop.text("/projects/3/rounds")
    assert "fit 1.5 s, publish 0.5 s" in shown
    assert "served now" in shown
    assert "10:00:01 fit took 1.50 s" in loop.text("/projects/3/rounds/1/log")
    assert "Nothing was noted" in loop.text("/projects/3/rounds/99/log")


def test_label_studio_being_down_costs_no_page(loop: StoredLoop) -> None:
    assert "cannot be reached" in loop.text("/projects/3/deviations")


@pytest.mark.parametrize("state", [ProjectState.DISCONNECTED, ProjectState.GONE, ProjectState.CONNECTING])
def test_a_project_whose_loop_does_not_run_can_be_looked_at_but_not_changed(
    loop: StoredLoop, state: ProjectState
) -> None:
    loop.change(Project, 3, state=state, problem="Why it does not.")
    for path in PAGES:
        loop.text(f"/projects/3{path}")
    for action in ("start", "pause", "resume", "settings", "preview", "rounds/1/serve"):
        refused = loop.client.post(f"/projects/3/{action}")
        assert refused.status_code == 400
        assert "nothing was changed" in refused.text


def test_starting_notes_that_someone_pressed_it(loop: StoredLoop) -> None:
    assert loop.client.post("/projects/3/start").status_code == 303
    with loop.database.read() as session:
        assert session.scalars(select(Event.action)).all() == ["START_TRAINING"]


def test_pausing_and_resuming(loop: StoredLoop) -> None:
    loop.client.post("/projects/3/pause")
    assert "The loop is paused" in loop.text("/projects/3")
    loop.client.post("/projects/3/resume")
    assert "The loop is paused" not in loop.text("/projects/3")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://elsewhere.example.com"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 303),
        ({"Origin": "http://localhost"}, 303),
        ({}, 303),  # no browser: whoever it is has no password but their own
    ],
)
def test_another_site_cannot_press_buttons(loop: StoredLoop, headers: dict[str, str], status: int) -> None:
    assert loop.client.post("/projects/3/pause", headers=headers).status_code == status
    with loop.database.read() as session:
        assert session.get_one(Project, 3).paused is (status == 303)


def test_all_of_it_is_behind_the_password(tmp_path: Path) -> None:
    loop = StoredLoop(tmp_path, basic_auth_user="lead", basic_auth_pass="secret")  # type: ignore[arg-type]
    for path in ("/", "/projects", "/static/dashboard/style.css", *(f"/projects/3{page}" for page in PAGES)):
        assert loop.client.get(path).status_code == 401
    assert loop.client.post("/projects/3/start").status_code == 401
    given = base64.b64encode(b"lead:secret").decode()
    assert loop.client.get("/", headers={"Authorization": f"Basic {given}"}).status_code == 200


def test_going_back_needs_a_model_that_is_still_there(loop: StoredLoop) -> None:
    refused = loop.client.post("/projects/3/rounds/1/serve")
    assert refused.status_code == 400
    assert "its files were deleted" in refused.text
    for number in (0, 7):  # a cold start, and none at all
        assert "has no model" in loop.client.post(f"/projects/3/rounds/{number}/serve").text
    (loop.settings.model_dir / "projects" / "3" / "models" / "round-1-abcdef" / "kind").mkdir(parents=True)
    assert "Go back to it" in loop.text("/projects/3/rounds")
    assert loop.client.post("/projects/3/rounds/1/serve").status_code == 303
    with loop.database.read() as session:
        begun = session.scalars(select(Round).where(Round.number == 3)).one()
        assert (begun.facts["learner_of"], begun.step) == ("round-1-abcdef", "sync")
        assert session.get_one(Project, 3).paused
    again = loop.client.post("/projects/3/rounds/1/serve")
    assert "A round is under way" in again.text


def test_a_wrong_setting_is_refused_with_what_exists(loop: StoredLoop) -> None:
    refused = loop.client.post("/projects/3/settings", data={"strategy": "bogus"})
    assert refused.status_code == 400
    assert "bogus" in refused.text
    assert "margin" in refused.text
    refused = loop.client.post("/projects/3/preview", data={"window": "many"}, headers={"HX-Request": "true"})
    assert refused.status_code == 400
    assert refused.text.startswith('<p class="message"')
    with loop.database.read() as session:
        assert session.get_one(Project, 3).extra_params == {}


def test_saving_without_a_change_asks_nobody(loop: StoredLoop) -> None:
    shown = loop.text("/projects/3/settings")
    assert 'name="labels_per_round" value="10"' in shown
    answer = loop.client.post("/projects/3/settings", data={"labels_per_round": "10", "preannotate": "true"})
    assert "Nothing was changed" in answer.text


def test_what_label_studio_cannot_store_is_not_changed_here(loop: StoredLoop) -> None:
    refused = loop.client.post("/projects/3/settings", data={"labels_per_round": "20"})
    assert refused.status_code == 502
    assert "No label is lost" in refused.text
    with loop.database.read() as session:
        assert session.get_one(Project, 3).extra_params == {}


def test_the_labeled_set_can_be_downloaded(loop: StoredLoop) -> None:
    loop.change(
        Task, (3, 2), target={"kind": {"votes": {"cat": 0.5, "dog": 0.5}, "annotators": 2, "multiple": False}}
    )
    loop.change(Task, (3, 3), source="=cmd()")
    answer = loop.client.get("/projects/3/labeled.csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [int(row["task"]) for row in rows] == list(range(1, 21))
    assert (rows[0]["labels"], rows[0]["part"], rows[9]["part"]) == ("cat", "training", "audit")
    assert rows[1]["labels"] == "cat (50%); dog (50%)"
    assert rows[2]["image"] == "'=cmd()"  # no formula for a spreadsheet
    assert "attachment" in answer.headers["Content-Disposition"]


def test_no_cell_of_the_labeled_set_is_a_formula_however_it_is_divided(loop: StoredLoop) -> None:
    names = ("x;=cmd|' /C calc'!A0;", "a\r\n-1", "b\t+1|@x", 'c; "=1+1"', "-1; ;=1")
    votes = dict.fromkeys(names, 1.0)
    loop.change(Task, (3, 2), target={"kind": {"votes": votes, "annotators": 2, "multiple": True}})
    loop.change(Task, (3, 3), source="a;=cmd()\t=1.png", groups={"place": "48.1, -2.5"})
    text = loop.client.get("/projects/3/labeled.csv").text
    cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
    for divider in ";|\t":
        cells += [cell for row in csv.reader(io.StringIO(text), delimiter=divider) for cell in row]
    cells += [cell for line in text.splitlines() for cell in re.split(r"[;|\t]", line)]
    assert any("'=cmd" in cell for cell in cells)
    assert not [cell for cell in cells if cell.lstrip(' "')[:1] in set("=+-@")]
    assert json.dumps({"place": "48.1, -2.5"}) in cells  # in commas, our quotes count


def test_a_thumbnail_of_no_image_says_why(loop: StoredLoop) -> None:
    assert loop.client.get("/projects/3/tasks/99/thumbnail").status_code == 404
    loop.change(Task, (3, 21), source="data:image/png;base64,AAAA")
    assert loop.client.get("/projects/3/tasks/21/thumbnail").status_code == 404
