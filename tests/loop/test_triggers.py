from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backend.loop.connection import _begin
from backend.loop.events import (
    DAMAGED,
    MISSED,
    PROJECT_UPDATED,
    SETTINGS_CHANGED,
    SKIPPED,
    START_TRAINING,
    Outcome,
    record,
)
from backend.loop.rounds import FAILED_AFTER
from backend.loop.triggers import due, labels_waiting, when_due
from backend.settings import LoopSettings
from backend.store.tables import Event, Project, ProjectState, QueueEntry, Round, RoundState, Task, now
from tests.conftest import new_deployment

SETTINGS = LoopSettings(labels_per_round=5, round_after_seconds=300, window=10)
EMBEDDER = "small"


class Loop:
    """A connected project of `tasks` tasks, of which a first round has published `window`."""

    def __init__(self, folder: Path, tasks: int = 40, window: int = 10, queue: int | None = None) -> None:
        self.deployment = new_deployment(folder)
        self.window = window
        with self.deployment.database.write() as session:
            session.add(Project(id=1, state=ProjectState.ACTIVE, synced_until=now(), label_config="<View/>"))
            for task_id in range(tasks):
                session.add(Task(project_id=1, id=task_id, source="a.png", embedded=EMBEDDER))
        self.finish_round(range(tasks if queue is None else queue))

    def finish_round(self, queue: Sequence[int], **facts: Any) -> None:
        """A round that covers all events is done; its queue holds these tasks."""
        with self.deployment.database.write() as session:
            project = session.get_one(Project, 1)
            project.synced_event = max((e.id for e in session.query(Event)), default=0)
            candidates = session.query(Task).count()
            known = {"embedder": EMBEDDER, "candidates": candidates} | facts
            done = Round(
                project_id=1,
                number=0,
                version="v",
                reason="",
                step="decide",
                state=RoundState.DONE,
                facts=known,
                started_at=now(),
                finished_at=now(),
            )
            session.add(done)
            session.flush()
            project.published_round = done.id
            for rank, task_id in enumerate(queue):
                published = rank < self.window
                session.add(
                    QueueEntry(round_id=done.id, rank=rank, task_id=task_id, reason="", published=published)
                )

    def fail_round(self) -> None:
        """The newest round fails now."""
        with self.deployment.database.write() as session:
            last = max((event.id for event in session.query(Event)), default=0)
            session.add(
                Round(
                    project_id=1,
                    number=1,
                    version="w",
                    reason="",
                    step="fit",
                    state=RoundState.FAILED,
                    facts={FAILED_AFTER: last},
                    started_at=now(),
                    finished_at=now(),
                )
            )

    def tell(self, action: str, *task_ids: int, ago: float = 0) -> None:
        """An event, `ago` seconds old."""
        with self.deployment.database.write() as session:
            received = now() - timedelta(seconds=ago)
            session.add(Event(project_id=1, action=action, task_ids=list(task_ids), received_at=received))

    def label(self, *task_ids: int) -> None:
        """What Label Studio's webhook brings about."""
        for task_id in task_ids:
            payload = {"task": {"id": task_id}, "annotation": {"was_cancelled": False}}
            assert record(self.deployment.database, "ANNOTATION_CREATED", 1, payload) == Outcome.RECORDED

    def skip(self, *task_ids: int) -> None:
        """Likewise, a skip."""
        for task_id in task_ids:
            payload = {"task": {"id": task_id}, "annotation": {"was_cancelled": True}}
            assert record(self.deployment.database, "ANNOTATION_CREATED", 1, payload) == Outcome.RECORDED

    def change_tasks(self, task_ids: Sequence[int], **values: Any) -> None:
        """What a sync, or the embedding, notes of tasks."""
        with self.deployment.database.write() as session:
            for task_id in task_ids:
                for name, value in values.items():
                    setattr(session.get_one(Task, (1, task_id)), name, value)

    def project(self) -> Project:
        with self.deployment.database.read() as session:
            return session.get_one(Project, 1)

    def due(self, **settings: Any) -> str | None:
        return due(self.deployment, self.project(), SETTINGS.model_copy(update=settings))

    def when_due(self) -> float | None:
        """Seconds from now."""
        later = when_due(self.deployment, self.project(), SETTINGS)
        return (later - now()).total_seconds() if later else None


@pytest.fixture
def loop(tmp_path: Path) -> Loop:
    return Loop(tmp_path)


def test_the_first_round_is_due_at_once(loop: Loop) -> None:
    with loop.deployment.database.write() as session:
        session.query(QueueEntry).delete()
        session.query(Round).delete()
    assert loop.due() == "the project was connected"


def test_a_project_that_is_connected_again_has_a_round_at_once(loop: Loop) -> None:
    with loop.deployment.database.write() as session:
        session.get_one(Project, 1).synced_until = None
    assert loop.due() == "the project was connected"


def test_nothing_is_due_while_nothing_happens(loop: Loop) -> None:
    assert loop.due() is None
    assert loop.when_due() is None


def test_enough_labels_start_a_round(loop: Loop) -> None:
    loop.label(1, 2, 3, 4)
    assert loop.due() is None
    loop.label(5)
    assert loop.due() == "5 new labels"


def test_a_task_counts_once_however_often_it_is_told_of(loop: Loop) -> None:
    loop.label(1, 1, 1, 1, 1, 1)
    assert loop.due() is None


def test_a_burst_of_events_becomes_one_round(loop: Loop) -> None:
    loop.label(*range(1, 21))
    assert loop.due() == "20 new labels"
    loop.finish_round(range(20, 40))
    assert loop.due() is None


def test_what_a_sync_did_not_cover_waits_for_the_next_round(loop: Loop) -> None:
    loop.label(*range(5))
    loop.finish_round(range(5, 40))
    loop.label(*range(5, 9))
    assert loop.due() is None
    loop.label(9)
    assert loop.due() == "5 new labels"


def test_deletions_count_although_they_name_no_task() -> None:
    events = [Event(action="ANNOTATIONS_DELETED", task_ids=[]) for _ in range(3)]
    events.append(Event(action="ANNOTATION_CREATED", task_ids=[7]))
    events.append(Event(action="ANNOTATIONS_CREATED", task_ids=[7, 8]))
    events.append(Event(action="TASKS_CREATED", task_ids=[9]))
    events.append(Event(action=SKIPPED, task_ids=[10]))
    assert labels_waiting(events) == 5


def test_a_label_does_not_wait_for_ever(loop: Loop) -> None:
    loop.tell("ANNOTATION_CREATED", 1, ago=200)
    loop.tell("ANNOTATION_CREATED", 2)
    assert loop.due() is None
    remaining = loop.when_due()
    assert remaining is not None
    assert 90 < remaining <= 100
    assert loop.due(round_after_seconds=150) == "2 new labels have waited for 150 s"


def test_a_skip_is_no_label(loop: Loop) -> None:
    loop.skip(1, 2, 3, 4, 5)
    loop.tell(SKIPPED, 6, ago=10_000)
    assert loop.due() is None
    assert loop.when_due() is None


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (START_TRAINING, "someone pressed Start training"),
        (PROJECT_UPDATED, "the labeling config was changed"),
        (SETTINGS_CHANGED, "the settings were changed"),
        (MISSED, "Label Studio changed without telling"),
        (DAMAGED, "a file of the last round was damaged"),
    ],
)
def test_some_events_start_a_round_alone_and_only_one(loop: Loop, action: str, reason: str) -> None:
    loop.tell(action)
    assert loop.due() == reason
    loop.finish_round(range(40))
    assert loop.due() is None


def test_our_own_changes_of_the_project_start_no_round(loop: Loop) -> None:
    payload = {"project": {"id": 1, "label_config": "<View/>"}}
    assert record(loop.deployment.database, PROJECT_UPDATED, 1, payload) == Outcome.IGNORED
    assert loop.due() is None
    payload["project"]["label_config"] = "<View><Image/></View>"
    assert record(loop.deployment.database, PROJECT_UPDATED, 1, payload) == Outcome.RECORDED
    assert loop.due() == "the labeling config was changed"


@pytest.mark.parametrize("action", [START_TRAINING, PROJECT_UPDATED, "ANNOTATION_CREATED", "TASKS_CREATED"])
def test_a_failed_round_is_tried_again_when_something_new_comes_and_only_then(
    loop: Loop, action: str
) -> None:
    """What was pending when it failed stays pending; alone, it would start one failing round after the other."""
    loop.tell(action, 1, ago=1)
    loop.label(*range(20))
    loop.fail_round()
    assert loop.due() is None
    loop.tell(action, 2)
    assert loop.due() == "the last round failed, and something changed since"


def test_a_first_sync_that_fails_is_not_tried_for_ever(loop: Loop) -> None:
    with loop.deployment.database.write() as session:
        session.get_one(Project, 1).synced_until = None
    loop.fail_round()
    assert loop.due() is None


def test_connecting_again_after_a_round_that_failed_begins_anew(loop: Loop) -> None:
    loop.fail_round()
    _begin(loop.deployment, 1)
    assert loop.due() == "the last round failed, and something changed since"


def test_a_queue_that_is_nearly_used_up_is_ranked_anew(tmp_path: Path) -> None:
    loop = Loop(tmp_path, tasks=40, queue=10)  # no reserve, though most of the pool is not in it
    loop.skip(*range(1, 6))
    assert loop.due() is None  # half of the window waits
    loop.skip(6)
    assert loop.due() == "the queue is nearly used up"


def test_the_reserve_is_used_before_a_new_ranking(loop: Loop) -> None:
    loop.skip(*range(9))
    assert loop.due() is None


def test_a_queue_that_holds_all_that_is_left_is_not_ranked_again(tmp_path: Path) -> None:
    loop = Loop(tmp_path, tasks=8)
    loop.skip(*range(6))
    assert loop.due() is None


def test_only_skipped_tasks_are_left(tmp_path: Path) -> None:
    loop = Loop(tmp_path, tasks=8)
    loop.skip(*range(8))
    assert loop.due() is None
    loop.change_tasks(range(8), skips=1, touched=False)
    loop.finish_round(range(8), candidates=0)
    assert loop.due() is None


def test_a_ranking_that_cannot_hold_more_is_not_made_again(tmp_path: Path) -> None:
    """Whatever keeps tasks out of the queue, a round without news would keep them out once more."""
    loop = Loop(tmp_path, tasks=40, queue=3)
    assert loop.due() is None
    loop.skip(0)
    assert loop.due() == "the queue is nearly used up"
    loop.finish_round(range(1, 4))
    assert loop.due() is None


@pytest.mark.parametrize(("left", "reason"), [(40, None), (4, "tasks were added")])
def test_new_tasks_are_ranked_when_few_are_left(tmp_path: Path, left: int, reason: str | None) -> None:
    loop = Loop(tmp_path, tasks=left)
    loop.tell("TASKS_CREATED", 100)
    assert loop.due() == reason


def test_a_cold_start_is_ranked_anew_when_the_rest_is_embedded(tmp_path: Path) -> None:
    loop = Loop(tmp_path, tasks=40)
    loop.change_tasks(range(15, 40), embedded=None)
    loop.finish_round(range(40), candidates=15)
    assert loop.due() is None
    loop.change_tasks(range(15, 39), embedded=EMBEDDER)
    assert loop.due() is None  # the last one is not
    loop.change_tasks([39], embedded=EMBEDDER)
    assert loop.due() == "the rest of the images has been embedded"
    loop.finish_round(range(40), candidates=40)
    assert loop.due() is None


def test_audit_tasks_and_broken_images_do_not_count_as_embedded_meanwhile(tmp_path: Path) -> None:
    loop = Loop(tmp_path, tasks=40)
    loop.change_tasks(range(20), audit=True)
    loop.change_tasks(range(20, 25), broken="it is no image", embedded=None)
    loop.finish_round(range(40), candidates=15)
    assert loop.due() is None


def test_embeddings_of_an_earlier_embedder_do_not_count(tmp_path: Path) -> None:
    loop = Loop(tmp_path, tasks=40)
    loop.change_tasks(range(10, 40), embedded="another")
    loop.finish_round(range(40), candidates=10)
    assert loop.due() is None


def test_a_trained_model_waits_for_labels_not_for_embeddings(tmp_path: Path) -> None:
    loop = Loop(tmp_path, tasks=40)
    loop.finish_round(range(40), candidates=10)
    with loop.deployment.database.write() as session:
        for done in session.query(Round):
            done.trained = True
    assert loop.due() is None


def test_a_label_from_before_the_clock_was_put_back_does_not_wait_for_it(loop: Loop) -> None:
    loop.tell("ANNOTATION_CREATED", 1, ago=-200)
    assert loop.due() is None
    assert loop.due(round_after_seconds=199) == "1 new labels have waited for 199 s"
