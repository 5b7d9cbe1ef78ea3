"""The points of the embedding map, as the browser gets them, and what stands around them."""

import base64
import gzip
import json
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from sqlalchemy import update
from werkzeug.test import TestResponse

from backend.dashboard.map_points import NONE, UNKNOWN
from backend.learners.weights import save_weights
from backend.loop.projection import SUFFIX
from backend.store.embeddings import EmbeddingStore
from backend.store.storage import Storage
from backend.store.tables import Event, Project, QueueEntry, Task
from tests.dashboard.points import Read, read_points
from tests.dashboard.stored_loop import StoredLoop

MAP = f"small{SUFFIX}40"


def draw(loop: StoredLoop, ids: list[int]) -> None:
    """Give tasks a place: that of task 5 is (0.5, -0.5)."""
    rows = np.array([[task_id / 10, -task_id / 10, 1] for task_id in ids], np.float32)
    EmbeddingStore(Storage(str(loop.settings.model_dir))).append(3, MAP, ids, rows)


def fetch(loop: StoredLoop, etag: str = "") -> TestResponse:
    return loop.client.get("/projects/3/map/points", headers={"If-None-Match": etag})


def points_of(loop: StoredLoop) -> Read:
    response = fetch(loop)
    assert response.status_code == 200
    assert response.mimetype == "application/octet-stream"
    return read_points(response.data)


def kind_of(points: Read, task_id: int) -> str:
    return points.kind_names[points.kinds[points.ids == task_id][0]]


def test_each_task_with_a_place_is_a_point_of_its_kind_the_rarer_kinds_last(loop: StoredLoop) -> None:
    draw(loop, [*range(1, 60), 99])  # 60 is not embedded yet; 99 was deleted
    points = points_of(loop)
    assert sorted(points.ids.tolist()) == list(range(1, 60))
    assert points.kinds.tolist() == sorted(points.kinds.tolist())
    assert np.bincount(points.kinds, minlength=4).tolist() == points.counts
    at = points.ids == 5
    assert (points.x[at][0], points.y[at][0]) == pytest.approx((0.5, -0.5))
    with loop.database.read() as session:
        tasks = {task.id: task for task in session.query(Task)}
        served = session.get_one(Project, 3).published_round
        published = {
            entry.task_id for entry in session.query(QueueEntry).filter_by(round_id=served, published=True)
        }
    assert published
    assert set(tasks) - published - set(range(1, 21))
    for task_id in points.ids.tolist():
        expected = "labeled" if tasks[task_id].target else "queued" if task_id in published else "pool"
        if expected != "pool" and tasks[task_id].audit:
            expected = "audit"
        assert kind_of(points, task_id) == expected, task_id


def test_a_task_that_was_labeled_since_is_no_longer_queued(loop: StoredLoop) -> None:
    draw(loop, list(range(1, 61)))
    points = points_of(loop)
    queued = int(points.ids[points.kinds == points.kind_names.index("queued")][0])
    with loop.database.write() as session:
        session.execute(update(Task).where(Task.id == queued).values(touched=True))
    assert kind_of(points_of(loop), queued) == "pool"


def test_annotators_say_the_class_of_labeled_tasks_and_the_committee_that_of_the_others(
    loop: StoredLoop,
) -> None:
    draw(loop, list(range(1, 61)))
    unasked = points_of(loop)
    assert unasked.class_names == ["cat"]
    assert (unasked.classes[np.isin(unasked.ids, range(1, 21))] == 0).all()
    assert (unasked.classes[unasked.ids > 20] == NONE).all()
    assert (unasked.uncertainty == UNKNOWN).all()

    with loop.database.read() as session:
        served = session.get_one(Project, 3).published_round
    path = loop.settings.model_dir / "projects/3/models/round-2-abcdef/kind@opinions/opinions.safetensors"
    assert served == 3
    arrays = {
        "task_ids": np.array([2, 30, 31, 32, 99]),
        "uncertainty": np.array([1, 0, 0.5, 1, 1], np.float16),
        "likeliest": np.array([1, 1, 0, -1, 1], np.int32),
    }
    save_weights(path, arrays, {"classes": ["cat", "dog"]})
    points = points_of(loop)
    assert points.class_names == ["cat", "dog"]

    def told(task_id: int) -> tuple[int, int]:
        at = points.ids == task_id
        return int(points.classes[at][0]), int(points.uncertainty[at][0])

    assert told(2) == (0, UNKNOWN), "the annotators said cat, whatever the model had thought before"
    assert told(30) == (1, 0)
    assert told(31) == (0, 127)
    assert told(32) == (NONE, 254)
    assert told(33) == (NONE, UNKNOWN)


def test_an_unchanged_map_is_not_sent_again_and_a_changed_one_is(loop: StoredLoop) -> None:
    draw(loop, list(range(1, 61)))
    first = fetch(loop)
    etag = first.headers["ETag"]
    again = fetch(loop, etag)
    assert (again.status_code, again.data) == (304, b"")
    with loop.database.write() as session:
        session.add(Event(project_id=3, action="ANNOTATION_CREATED", task_ids=[21]))
    changed = fetch(loop, etag)
    assert changed.status_code == 200
    assert changed.headers["ETag"] != etag
    draw(loop, [7])
    assert fetch(loop, changed.headers["ETag"]).status_code == 200


def test_without_a_map_the_page_says_why_and_loads_anew_once_there_is_one(loop: StoredLoop) -> None:
    page = loop.client.get("/projects/3/map").text
    assert "The map of 60 images is being drawn by a worker" in page
    assert "<canvas" not in page
    assert fetch(loop).status_code == 404
    assert "being drawn" in loop.client.get("/projects/3/map/state").text
    draw(loop, list(range(1, 61)))
    assert loop.client.get("/projects/3/map/state").headers["HX-Refresh"] == "true"
    response = loop.client.get("/projects/3/map")
    assert "<canvas" in response.text
    assert "'unsafe-eval'" in response.headers["Content-Security-Policy"]
    assert "'unsafe-eval'" not in loop.client.get("/projects/3").headers["Content-Security-Policy"]


def test_a_damaged_map_is_told(loop: StoredLoop) -> None:
    draw(loop, [1, 2, 3])
    for file in (loop.settings.model_dir / "embeddings/project-3" / f"{MAP}.lance" / "data").iterdir():
        file.write_bytes(b"nonsense")
    response = fetch(loop)
    assert response.status_code == 404
    assert "made anew" in response.text


def test_a_card_tells_what_is_known_of_a_task(loop: StoredLoop) -> None:
    labeled = loop.client.get("/projects/3/tasks/5/card").text
    assert "Annotators: <strong>cat</strong>" in labeled
    assert 'href="http://127.0.0.1:9/projects/3/data?task=5"' in labeled
    assert "/projects/3/tasks/5/thumbnail" in labeled
    with loop.database.write() as session:
        session.execute(update(QueueEntry).where(QueueEntry.task_id == 30).values(reason="looks <odd>"))
    assert "Looks &lt;odd&gt;" in loop.client.get("/projects/3/tasks/30/card").text
    assert loop.client.get("/projects/3/tasks/99/card").status_code == 404


def test_chosen_tasks_are_opened_in_a_tab_of_label_studio_that_is_not_stored(loop: StoredLoop) -> None:
    response = loop.client.get("/projects/3/map/open?tasks=7,5,nonsense,5")
    assert response.status_code == 302
    url = urlsplit(response.headers["Location"])
    assert (url.netloc, url.path) == ("127.0.0.1:9", "/projects/3/data")
    (tab,) = parse_qs(url.query)["tab"]
    packed = base64.urlsafe_b64decode(tab + "=" * (-len(tab) % 4))
    filters = json.loads(gzip.decompress(packed))["filters"]
    assert filters["conjunction"] == "or"
    assert [item["value"] for item in filters["items"]] == [5, 7]
    assert loop.client.get("/projects/3/map/open?tasks=").status_code == 400
