"""Nothing is lost and the queue is never empty: whatever dies, whenever it dies, the loop goes on by itself.

Real processes on a Label Studio of their own. The worker is `faulty_worker`, which dies or fails when told to;
a proxy that can spoil answers stands between it and Label Studio.
"""

import concurrent.futures
import shutil
import signal
import sqlite3
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import label_studio_sdk
import pytest
from sqlalchemy import func, select, update

from backend.demo.label_studio import LabelStudioServer
from backend.loop.advancing import project_settings
from backend.loop.events import SECRET_HEADER
from backend.loop.status import describe
from backend.loop.steps import STEPS
from backend.store.artifacts import models
from backend.store.database import upsert
from backend.store.tables import Event, Project, ProjectState, QueueEntry, Round, RoundState, Task
from tests.conftest import DigitsProject, make_digits_project
from tests.end_to_end.faulty_worker import Faults
from tests.end_to_end.running_loop import RunningLoop, digits_config, wait_for
from tests.end_to_end.unreliable_proxy import Fault, UnreliableProxy

FAST = {"labels_per_round": 6, "minimum_labels": 4, "debounce_seconds": 0, "window": 24}
SLOW = FAST | {
    "labels_per_round": 10,
    "round_after_seconds": 10_000,
}  # so that the window drains without a round


@dataclass
class Ordeal:
    """A running loop that things happen to."""

    loop: RunningLoop
    server: LabelStudioServer
    proxy: UnreliableProxy
    faults: Faults
    images: Path

    def connect(self, images: int = 60, **settings: object) -> DigitsProject:
        """A project of digits whose first round is done."""
        with self.loop.deployment.database.write() as session:  # else the worker goes on with them all
            session.execute(update(Project).values(state=ProjectState.DISCONNECTED))
        config = digits_config(**(FAST | settings))
        project = make_digits_project(self.server, self.images, images, label_config=config)
        self.loop.connect(project.id)
        self.loop.wait_for_round(project.id, 0)
        return project

    def label(self, project: DigitsProject, count: int) -> list[int]:
        """Label the next tasks as Label Studio serves them, each of which carries a prediction."""
        annotator = self.loop.annotator(project.id)
        labeled = []
        for _ in range(count):
            asked = annotator.next_task()
            assert asked is not None
            assert asked.predictions, f"task {asked.id} came from {asked.queue!r}"
            annotator.choose(asked.id, "digit", "image", [str(project.digits[asked.id])])
            labeled.append(asked.id)
        return labeled

    def start_worker(self, name: str, faults: Faults) -> None:
        """Start a worker that has accidents."""
        program = [sys.executable, "-m", "tests.end_to_end.faulty_worker", str(faults.folder)]
        self.loop.processes.start_process(name, program)

    def start_server(self) -> None:
        """Start the server, and wait for it."""
        self.loop.processes.start_process("serve")
        wait_for("the server", lambda: _answers(self.loop.processes.url))

    def train(self, project: DigitsProject) -> None:
        """Press Start training in Label Studio."""
        backend = self.loop.client.backends(project.id)[0]
        headers = {"Authorization": self.loop.client.authorization()}
        url = f"{self.server.url}/api/ml/{backend.id}/train"
        httpx.post(url, headers=headers, timeout=60).raise_for_status()

    def model_folder(self, project: DigitsProject) -> Path:
        """Where the newest round keeps its model."""
        latest = self.loop.latest(project.id)
        assert latest is not None
        return self.loop.deployment.settings.model_dir / models(project.id) / latest.version

    def status(self, project: DigitsProject) -> str:
        """What `active-learning status` tells."""
        deployment = self.loop.deployment
        return " ".join(
            describe(deployment, self.loop.project(project.id), project_settings(deployment, project.id))
        )

    def wait_at(self, moment: str) -> None:
        """Wait until the worker pauses at a moment for which a "wait" is planned."""
        noted = f"wait at {moment}"
        wait_for(
            moment, lambda: any(noted in line for line in self.faults.journal()[self.faults.noted_before :])
        )

    def wait_for_state(self, project: DigitsProject, state: RoundState, step: str | None = None) -> None:
        """Wait until the newest round is in that state."""

        def look() -> bool:
            latest = self.loop.latest(project.id)
            return latest is not None and latest.state == state and step in (None, latest.step)

        wait_for(f"a round that is {state}", look)

    def check(self, project: DigitsProject, labeled: Iterable[int]) -> None:
        """All labels are in the store, and Label Studio holds exactly the published predictions."""
        wanted = set(labeled)
        if self.loop.pending(project.id):
            self.train(project)  # too few for a round of their own
        wait_for("all labels in the store", lambda: self.loop.targets(project.id).keys() == wanted)
        wait_for("the last round", lambda: self._settled(project))
        served = self.loop.served(project.id)
        with self.loop.deployment.database.read() as session:
            published = set(
                session.scalars(
                    select(QueueEntry.task_id).where(QueueEntry.round_id == served.id, QueueEntry.published)
                )
            )
        with closing(self.open_label_studio()) as connection:
            query = "SELECT task_id, model_version FROM prediction WHERE project_id = ?"
            stored = connection.execute(query, (project.id,)).fetchall()
        assert {version for _, version in stored} == {served.version}
        assert sorted(task_id for task_id, _ in stored) == sorted(published)
        assert self.loop.client.project(project.id).model_version == served.version

    def _settled(self, project: DigitsProject) -> bool:
        latest = self.loop.latest(project.id)
        return latest is not None and latest.state == RoundState.DONE and not self.loop.pending(project.id)

    def open_label_studio(self) -> sqlite3.Connection:
        """Label Studio's own database, to be looked at."""
        file = self.server.directory / "label_studio.sqlite3"
        return sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=60)

    @contextmanager
    def watched_queue(self, project: DigitsProject) -> Iterator[None]:
        """Fails if the queue was empty for a moment: no waiting task with a prediction of the served version."""
        query = """SELECT project.model_version, count(task.id) FROM project
            LEFT JOIN prediction ON prediction.project_id = project.id
                AND prediction.model_version = project.model_version
            LEFT JOIN task ON task.id = prediction.task_id AND NOT task.is_labeled
            WHERE project.id = ?"""
        empty: list[tuple[object, ...]] = []
        looks = 0
        ended = threading.Event()

        def watch() -> None:
            nonlocal looks
            with closing(self.open_label_studio()) as connection:
                while not ended.wait(0.02):
                    version, waiting = connection.execute(query, (project.id,)).fetchone()
                    looks += 1
                    if not waiting:
                        empty.append((version, waiting, self.faults.planned()))

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            watching = pool.submit(watch)
            try:
                yield
            finally:
                ended.set()
            watching.result()
        assert looks > 20
        assert not empty, f"the queue was empty at {len(empty)} of {looks} looks: {empty[:3]}"


@pytest.fixture(scope="module")
def ordeal(prepared_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ordeal]:
    """One Label Studio, server and worker for all tests here, each of which leaves them running."""
    folder = tmp_path_factory.mktemp("recovery")
    shutil.copytree(prepared_directory, folder / "label-studio")
    server = LabelStudioServer(folder / "label-studio", local_files=folder)
    with server:
        proxy = UnreliableProxy(server.url)
        with proxy.running():
            loop = RunningLoop.on(server, folder / "backend", LABEL_STUDIO_URL=proxy.url)
            running = Ordeal(loop, server, proxy, Faults(folder / "faults"), folder)
            running.start_worker("worker", running.faults)
            running.start_server()
            yield running
            loop.processes.stop()


@pytest.fixture(autouse=True)
def no_more_faults(ordeal: Ordeal) -> Iterator[None]:
    """A test that fails leaves the others alone."""
    yield
    ordeal.proxy.faults.clear()
    ordeal.faults.plan()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2).is_success
    except httpx.TransportError:
        return False


def test_a_worker_killed_at_any_moment_of_a_round(ordeal: Ordeal) -> None:
    project = ordeal.connect(80)
    labeled = ordeal.label(project, 6)
    ordeal.loop.wait_for_round(project.id, 1)
    moments = [f"{step} {edge}" for step in STEPS for edge in ("before", "after")]
    inside = {
        "embed before": ["append 1 before", "append 1 after"],
        "fit before": ["fsync 1 before"],
        "publish before": [
            "import_predictions 1 before",
            "import_predictions 1 after",
            "import_predictions 2 after",
            "set_model_version 1 before",
            "set_model_version 1 after",
        ],
        "clean before": ["delete_predictions 1 before", "delete_predictions 1 after"],
    }
    kills = [late for moment in moments for late in [moment, *inside.get(moment, [])]]
    added = [{"image": f"/data/local-files/?d={project.images.name}/0000.png"}]  # something to embed
    sdk = label_studio_sdk.LabelStudio(base_url=ordeal.server.url, api_key=ordeal.server.api_key)
    sdk.projects.import_tasks(id=project.id, request=added)
    with ordeal.watched_queue(project):
        ordeal.faults.plan(*((moment, "kill") for moment in kills))
        labeled += ordeal.label(project, 6)
        left = len(kills)
        while planned := ordeal.faults.planned():
            # Someone labels on while the worker is dead or comes back.
            if len(planned) < left and len(planned) % 6 == 0:
                labeled += ordeal.label(project, 1)
            left = len(planned)
            wait_for(f"the kill at {planned[0][0]}", lambda left=left: len(ordeal.faults.planned()) < left)
        ordeal.check(project, labeled)
    kills_done = [line for line in ordeal.faults.journal() if " kill at " in line]
    assert len(kills_done) == len(kills)


def test_a_worker_killed_while_topping_up(ordeal: Ordeal) -> None:
    project = ordeal.connect(90, **SLOW)
    first = ordeal.loop.queue(project.id)
    annotator = ordeal.loop.annotator(project.id)
    ordeal.faults.plan(
        ("import_predictions 1 before", "kill"),
        ("import_predictions 1 after", "kill"),
        ("import_predictions 2 after", "kill"),
    )
    with ordeal.watched_queue(project):
        for task_id in first[:21]:
            annotator.skip(task_id)
        wait_for("three kills", lambda: not ordeal.faults.planned())
        # Enough is left for now; the eight tasks of the last import are in Label Studio and not noted here.
        for task_id in first[21:37]:
            annotator.skip(task_id)
        wait_for("the window to be full", lambda: len(ordeal.loop.queue(project.id)) == 40)
        assert ordeal.loop.queue(project.id)[:3] == first[37:]
        assert ordeal.loop.served(project.id).number == 0
        asked = annotator.next_task()
        assert asked is not None
        assert asked.id == first[37]
        assert len(asked.predictions) == 1
        _check_no_duplicates(ordeal, project)
        ordeal.train(project)
        ordeal.check(project, [])


def _check_no_duplicates(ordeal: Ordeal, project: DigitsProject) -> None:
    with closing(ordeal.open_label_studio()) as connection:
        query = "SELECT task_id FROM prediction WHERE project_id = ? GROUP BY task_id HAVING count(*) > 1"
        assert connection.execute(query, (project.id,)).fetchall() == []


def test_two_workers_run_one_round_at_a_time(ordeal: Ordeal) -> None:
    """Both find every nudge; one is stopped in the middle of publishing, and comes back when the other is done."""
    project = ordeal.connect(70)
    second = Faults(ordeal.images / "faults-of-the-second")
    ordeal.start_worker("second", second)
    try:
        _take_turns(ordeal, project, second)
        assert ordeal.loop.processes.running("worker")
        assert ordeal.loop.processes.running("second")
    finally:
        ordeal.loop.processes.signal("worker", signal.SIGCONT)
        ordeal.loop.processes.signal("second", signal.SIGKILL)


def _take_turns(ordeal: Ordeal, project: DigitsProject, second: Faults) -> None:
    wait_for("the second worker", lambda: "starts" in "".join(second.journal()))
    labeled = []
    with ordeal.watched_queue(project):
        for number in range(1, 3):
            labeled += ordeal.label(project, 6)
            ordeal.loop.wait_for_round(project.id, number)
        for faults in (ordeal.faults, second):
            faults.plan(("import_predictions 2 after", "stop"))
        labeled += ordeal.label(project, 6)
        wait_for("a stop", lambda: not ordeal.faults.planned() or not second.planned())
        stopped, other = ("worker", second) if not ordeal.faults.planned() else ("second", ordeal.faults)
        other.plan()
        ordeal.loop.wait_for_round(project.id, 3)
        ordeal.loop.processes.signal(stopped, signal.SIGCONT)
        labeled += ordeal.label(project, 6)
        ordeal.loop.wait_for_round(project.id, 4)
        ordeal.check(project, labeled)


def test_webhooks_are_recorded_while_a_round_trains_and_the_store_is_busy(ordeal: Ordeal) -> None:
    project = ordeal.connect(60)
    database = ordeal.loop.deployment.database
    ordeal.faults.plan(("fit before", "wait"))
    labeled = ordeal.label(project, 6)
    ordeal.wait_at("fit before")
    url = f"{ordeal.loop.processes.url}/webhook"
    headers = {SECRET_HEADER: ordeal.loop.project(project.id).webhook_secret}
    ids = list(project.digits)
    ended = threading.Event()

    def write_in_bulk() -> None:
        rows = [
            {"project_id": project.id, "id": task_id, "source": "x"} for task_id in range(10**6, 10**6 + 500)
        ]
        defaults = {"labeled": True, "ground_truth": False, "skips": 0, "touched": False, "audit": False}
        while not ended.is_set():
            with database.write() as session:
                upsert(session, Task, [row | defaults for row in rows])

    def post(number: int) -> int:
        task = {"id": ids[number % len(ids)]}
        body = {"action": "ANNOTATION_UPDATED", "project": {"id": project.id}, "task": task, "annotation": {}}
        return httpx.post(url, json=body, headers=headers, timeout=30).status_code

    writer = threading.Thread(target=write_in_bulk)
    writer.start()
    try:
        with concurrent.futures.ThreadPoolExecutor(25) as pool:
            posts = [pool.submit(post, number) for number in range(200)]
            more = ordeal.label(project, 4)  # Label Studio sends these
        assert {done.result() for done in posts} == {200}
    finally:
        ended.set()
        writer.join()
    pending = ordeal.loop.pending(project.id)
    assert pending.count("ANNOTATION_UPDATED") == 200
    created = select(Event.task_ids).where(
        Event.project_id == project.id, Event.action == "ANNOTATION_CREATED"
    )

    def told() -> bool:
        with database.read() as session:
            return {task_id for task_ids in session.scalars(created) for task_id in task_ids} >= set(more)

    # It gives up on a server that is busy, which records what it was told all the same.
    wait_for("what Label Studio sent", told)
    ordeal.faults.plan()
    # The sync finds that nothing of what the posts claim is true, and forgets the tasks that we made up.
    ordeal.check(project, labeled + more)
    with database.read() as session:
        tasks = session.scalar(select(func.count()).select_from(Task).where(Task.project_id == project.id))
    assert tasks == 60


def test_label_studio_answers_badly_now_and_then(ordeal: Ordeal) -> None:
    project = ordeal.connect(60)
    versions, imports = r"GET .*/model-versions", r"POST .*/import/predictions"
    ordeal.proxy.faults = [
        Fault(r"GET /api/projects/\d+/\?", "500"),
        Fault(r"GET /api/tasks/", "half"),
        Fault(r"GET /api/tasks/", "short"),
        Fault(versions, "429"),
        Fault(imports, "500"),
        Fault(imports, "lost"),
        Fault(imports, "half"),
        Fault(imports, "twice"),
        Fault(r"PATCH /api/projects/", "404"),
        Fault(r"PATCH /api/projects/", "lost"),
        Fault(r"DELETE .*/model-versions", "500"),
        Fault(r"DELETE .*/model-versions", "lost"),
    ]
    with ordeal.watched_queue(project):
        labeled = ordeal.label(project, 6)
        ordeal.loop.wait_for_round(project.id, 1)
        ordeal.check(project, labeled)
    assert ordeal.proxy.faults == []
    assert "failures" not in ordeal.loop.served(project.id).facts  # none was taken for our own


def test_label_studio_killed_in_the_middle_of_a_round(ordeal: Ordeal) -> None:
    project = ordeal.connect(60)
    labeled: list[int] = []
    for number, step in enumerate(("sync", "publish"), start=1):
        ordeal.faults.plan((f"{step} before", "wait"))
        labeled += ordeal.label(project, 6)
        ordeal.wait_at(f"{step} before")
        ordeal.server.kill()
        ordeal.faults.plan()
        waits = f"Round {number} waits at the step {step}"
        status = wait_for(waits, lambda waits=waits: waits in (told := ordeal.status(project)) and told)
        assert "cannot be reached" in status
        assert "No label is lost" in status
        ordeal.server.start()
        ordeal.loop.wait_for_round(project.id, number)
    ordeal.check(project, labeled)


def test_label_studio_stops_answering_in_the_middle_of_an_import(ordeal: Ordeal) -> None:
    """What it was asked while it hung, it does when it comes back, beside what it is asked again."""
    project = ordeal.connect(60)
    ordeal.faults.plan(("import_predictions 2 before", "wait"))
    labeled = ordeal.label(project, 6)
    ordeal.wait_at("import_predictions 2 before")
    ordeal.server.send_signal(signal.SIGSTOP)
    try:
        ordeal.faults.plan()
        ordeal.wait_for_state(project, RoundState.WAITING, "publish")
        latest = ordeal.loop.latest(project.id)
        assert latest is not None
        assert "did not answer in time" in str(latest.error)
    finally:
        ordeal.server.send_signal(signal.SIGCONT)
    ordeal.loop.wait_for_round(project.id, 1)
    ordeal.check(project, labeled)


def test_labels_given_while_the_server_is_down_are_found(ordeal: Ordeal) -> None:
    project = ordeal.connect(60)
    ordeal.loop.processes.signal("serve", signal.SIGKILL)
    ordeal.loop.processes.wait("serve", 10)
    labeled = ordeal.label(project, 3)
    assert set(ordeal.loop.pending(project.id)) <= {"MISSED"}  # the worker may have looked by now
    ordeal.start_server()
    wait_for("the labels", lambda: ordeal.loop.targets(project.id).keys() == set(labeled))
    ordeal.check(project, labeled)


def test_a_step_that_fails_three_times_fails_the_round(ordeal: Ordeal) -> None:
    project = ordeal.connect(60)
    before = ordeal.loop.served(project.id).version
    ordeal.faults.plan(*[("fit before", "raise")] * 3)
    with ordeal.watched_queue(project):
        labeled = ordeal.label(project, 6)
        ordeal.wait_for_state(project, RoundState.FAILED)
        assert ordeal.faults.planned() == []
        status = ordeal.status(project)
        assert "Round 1 failed: RuntimeError: planned at fit before" in status
        assert "The old queue stays" in status
        assert ordeal.loop.client.project(project.id).model_version == before
        assert ordeal.loop.served(project.id).version == before
        labeled += ordeal.label(project, 1)
        ordeal.loop.wait_for_round(project.id, 2)
        ordeal.check(project, labeled)
    assert ordeal.loop.latest(project.id).number == 2  # one try, no more


def test_a_model_that_was_damaged_is_trained_anew(ordeal: Ordeal) -> None:
    project = ordeal.connect(70)
    ordeal.faults.plan(("evaluate before", "wait"))
    labeled = ordeal.label(project, 6)
    ordeal.wait_at("evaluate before")
    _damage(ordeal.model_folder(project))
    ordeal.faults.plan()
    ordeal.loop.wait_for_round(project.id, 1)
    # And the one that is served: the queue cannot be topped up with its predictions.
    _damage(ordeal.model_folder(project))
    with ordeal.watched_queue(project):
        annotator = ordeal.loop.annotator(project.id)
        for task_id in ordeal.loop.queue(project.id)[:16]:
            annotator.skip(task_id)
        assert ordeal.loop.wait_for_round(project.id, 2).reason == "a file of the last round was damaged"
        ordeal.check(project, labeled)
    with ordeal.loop.deployment.database.read() as session:
        reasons = list(session.scalars(select(Round.reason).where(Round.project_id == project.id)))
    assert reasons.count("a file of the last round was damaged") == 1


def test_embeddings_that_were_damaged_or_lost_are_computed_anew(ordeal: Ordeal) -> None:
    project = ordeal.connect(60)
    folder = ordeal.loop.deployment.settings.model_dir / "embeddings" / f"project-{project.id}"
    _damage(folder)
    with ordeal.watched_queue(project):
        labeled = ordeal.label(project, 6)
        first = ordeal.loop.wait_for_round(project.id, 1)
        assert first.facts["candidates"] > 40
        assert any(path.suffix == ".damaged" for path in folder.iterdir())
        shutil.rmtree(folder.rename(folder.with_name("lost")))  # at once: a map may be written there
        labeled += ordeal.label(project, 6)
        assert ordeal.loop.wait_for_round(project.id, 2).facts["candidates"] > 40
        ordeal.check(project, labeled)


def _damage(folder: Path) -> None:
    """Overwrite the files in a folder with as many zeros."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        path.write_bytes(bytes(path.stat().st_size))


def test_a_full_disk(ordeal: Ordeal) -> None:
    project = ordeal.connect(60)
    before = ordeal.loop.served(project.id).version
    ordeal.faults.plan(("fsync 1 before", "no space"))
    with ordeal.watched_queue(project):
        labeled = ordeal.label(project, 6)
        status = wait_for(
            "the round to wait", lambda: "Round 1 waits" in (told := ordeal.status(project)) and told
        )
        assert "No space left on device" in status
        assert ordeal.loop.client.project(project.id).model_version == before
        ordeal.faults.plan()
        ordeal.loop.wait_for_round(project.id, 1)
        ordeal.check(project, labeled)
    assert "No space" not in ordeal.status(project)
