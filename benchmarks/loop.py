"""How long the loop takes on a project of 10,000 tasks, by step, each beside the least that it could take.

    .venv/bin/python benchmarks/loop.py [--tasks 10000] [--rounds 3]

Starts a real Label Studio, the server and a worker in a temporary folder, draws the images (digits, shifted and
turned), and measures
- from `connect` to the first published window;
- from the annotation that makes a round due to the flipped queue, by step. A step's bound is what Label Studio needs
  for the same requests, sent bare, or the same computation alone: fitting the heads; one pass over the embeddings;
- opening a task outside the window, which shows its prediction;
- answering a webhook, idle and while a round trains (Label Studio gives up after 1 s).
Timings of one run on one machine; compare the ratios.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
from PIL import Image
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sqlalchemy import func, select

from backend.demo.annotator import Annotator
from backend.demo.backend import BackendProcesses
from backend.demo.label_studio import LabelStudioServer, free_port
from backend.demo.project import CLASSES, LABEL_CONFIG, create_project
from backend.deployment import Deployment
from backend.labelstudio.labeling_config import read_labeling_config
from backend.learners.learner import EmbeddingLearner
from backend.loop import learning
from backend.loop.connection import connect
from backend.loop.events import SECRET_HEADER
from backend.loop.jobs import Jobs
from backend.loop.rounds import served_round
from backend.settings import LoopSettings, Settings
from backend.store.tables import Project, QueueEntry, Round, RoundState, Task

console = Console()


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        digits = draw(folder / "images" / "digits", options.tasks)
        with LabelStudioServer(folder / "label-studio", local_files=folder / "images") as server:
            project_id = create_project(
                server.url,
                server.api_key,
                "Benchmark",
                LABEL_CONFIG,
                folder / "images" / "digits",
                list(digits),
            )
            settings = Settings(
                label_studio_url=server.url,
                label_studio_api_key=SecretStr(server.api_key),
                model_dir=folder / "backend",
                port=free_port(),
            )
            settings.backend_url = f"http://127.0.0.1:{settings.port}"
            environment = {
                "LABEL_STUDIO_URL": server.url,
                "LABEL_STUDIO_API_KEY": server.api_key,
                "BACKEND_URL": settings.backend_url,
                "MODEL_DIR": str(settings.model_dir),
                "PORT": str(settings.port),
            }
            with BackendProcesses(environment):
                measure(Deployment(settings), server, project_id, digits, options.rounds)


def draw(folder: Path, count: int) -> dict[str, str]:
    """Write `count` images of digits, each shifted and turned a little; returns the digit of each file."""
    folder.mkdir(parents=True)
    source = load_digits()
    rng = np.random.default_rng(0)
    digits: dict[str, str] = {}
    for number in range(count):
        index = number % len(source.images)
        image = Image.fromarray((255 - np.pad(source.images[index], 2) * (255 / 16)).astype(np.uint8))
        image = image.resize((96, 96), Image.Resampling.BICUBIC)
        shift = rng.integers(-8, 9, 2).tolist()
        turned = image.rotate(rng.uniform(-15, 15), translate=tuple(shift), fillcolor=255)
        name = f"{number:06}.png"
        turned.save(folder / name)
        digits[name] = str(source.target[index])
    return digits


def measure(
    deployment: Deployment, server: LabelStudioServer, project_id: int, digits: dict[str, str], rounds: int
) -> None:
    """Connect, then run some rounds, then open tasks outside the window."""
    started = time.monotonic()
    connect(deployment, project_id, backend_url=deployment.settings.backend_url)
    Jobs(deployment).nudge(project_id)
    wait_until(lambda: served_round(deployment, project_id) is not None, 600)
    console.print(
        f"From connect to the first published window: {time.monotonic() - started:.1f} s (goal: 60 s)"
    )
    first = served_round(deployment, project_id)
    console.print(f"  by step: {first.seconds if first else {}}")

    wait_until(lambda: embedded_count(deployment, project_id) == len(digits), 1_800)
    console.print(f"Until all {len(digits)} images are embedded: {time.monotonic() - started:.1f} s")
    truth = {
        task.id: digits[task.data["image"].rpartition("/")[2]]
        for task in deployment.label_studio.tasks(project_id)
    }
    wait_until(lambda: is_idle(deployment, project_id), 300)
    annotator = Annotator(server.url, server.api_key, project_id)
    for _ in range(rounds):
        flip = one_round(deployment, annotator, project_id, truth)
    print_steps(deployment, project_id, flip)
    open_outside(deployment, server, project_id)
    acknowledge(deployment, project_id)


def one_round(deployment: Deployment, annotator: Annotator, project_id: int, truth: dict[int, str]) -> float:
    """Label until a round is due; returns the seconds from the last label to the flip."""
    wait_until(lambda: is_idle(deployment, project_id), 300)
    before = served_round(deployment, project_id)
    for _ in range(LoopSettings().labels_per_round):
        task = annotator.next_task()
        assert task is not None
        annotator.choose(task.id, "digit", "image", [truth[task.id]])
    submitted = time.monotonic()
    label_studio = deployment.label_studio
    version = before.version if before else None
    wait_until(lambda: label_studio.project(project_id).model_version != version, 300, pause=0.02)
    flipped = time.monotonic() - submitted
    wait_until(lambda: is_idle(deployment, project_id), 300)
    return flipped


def print_steps(deployment: Deployment, project_id: int, flip: float) -> None:
    """The last round's steps beside their bounds."""
    done = served_round(deployment, project_id)
    assert done is not None
    bounds = bounds_of(deployment, project_id, done)
    table = Table(
        title=f"Round {done.number}: {done.facts['labels']} labels, {done.facts['candidates']} candidates"
    )
    for heading in ("Step", "Seconds", "Bound", "Ratio", "What the bound is"):
        table.add_column(heading, justify="left" if heading in ("Step", "What the bound is") else "right")
    elsewhere = 0.0
    total = 0.0
    for step, seconds in done.seconds.items():
        bound, what, is_label_studio = bounds.get(step, (0.0, "", False))
        if step != "clean":  # after the flip
            total += seconds
            elsewhere += bound if is_label_studio else 0.0
        ratio = f"{seconds / bound:.1f}" if bound else ""
        table.add_row(step, f"{seconds:.2f}", f"{bound:.2f}" if bound else "", ratio, what)
    console.print(table)
    console.print(
        f"From the annotation that made the round due to the flipped queue: {flip:.2f} s (goal: 10 s), "
        f"of which steps {total:.2f} s; of these our own code: {total - elsewhere:.2f} s (goal: 2 s), "
        f"and {LoopSettings().debounce_seconds:.1f} s of debounce."
    )


def bounds_of(deployment: Deployment, project_id: int, done: Round) -> dict[str, tuple[float, str, bool]]:
    """Seconds that each step needs at the least, what that is, and whether Label Studio spends them."""
    label_studio = deployment.label_studio
    with deployment.database.read() as session:
        project = session.get_one(Project, project_id)
        published = session.scalars(
            select(QueueEntry).where(QueueEntry.round_id == done.id, QueueEntry.published)
        ).all()
    control = read_labeling_config(project.label_config).controls[0]
    settings = LoopSettings.resolve(control.settings, project.extra_params)
    since = label_studio.latest_change(project_id)

    def sync() -> None:
        label_studio.project(project_id)
        label_studio.latest_change(project_id)
        list(label_studio.tasks(project_id, changed_since=since))

    def publish() -> None:
        label_studio.model_versions(project_id)
        predictions = [
            {"task": entry.task_id, "result": [], "score": 0.4, "model_version": "bare"}
            for entry in published
        ]
        label_studio.import_predictions(project_id, predictions)
        label_studio.set_model_version(project_id, done.version)

    def clean() -> None:
        label_studio.model_versions(project_id)
        label_studio.delete_predictions(project_id, "bare")

    embedder = done.facts["embedder"]
    training, _ = learning.labeled_sets(deployment, project_id, done.facts, control)
    learner = cast("EmbeddingLearner", learning.learner_of(deployment, done, control))
    _, vectors = deployment.embeddings.read(project_id, embedder)
    return {
        "sync": (seconds_of(sync), "the same requests, bare", True),
        "fit": (
            seconds_of(lambda: learning.fit(deployment, done, training, control, settings)),
            "fitting the heads alone",
            False,
        ),
        "score": (
            seconds_of(lambda: (deployment.embeddings.read(project_id, embedder), learner.answers(vectors))),
            "one pass: reading the embeddings and the heads' product",
            False,
        ),
        "publish": (seconds_of(publish, 1), "the same requests, bare", True),
        "clean": (seconds_of(clean, 1), "the same requests, bare", True),
    }


def open_outside(deployment: Deployment, server: LabelStudioServer, project_id: int) -> None:
    """Open tasks that are not in the window, as a click in the data manager does."""
    served = served_round(deployment, project_id)
    assert served is not None
    with deployment.database.read() as session:
        queued = select(QueueEntry.task_id).where(QueueEntry.round_id == served.id, QueueEntry.published)
        outside = session.scalars(
            select(Task.id)
            .where(Task.project_id == project_id, Task.target.is_(None), Task.id.not_in(queued))
            .limit(12)
        ).all()

    def open_task(task_id: int) -> dict[str, Any]:
        headers = {"Authorization": deployment.label_studio.authorization()}
        parameters = {"project": project_id}
        response = httpx.get(
            f"{server.url}/api/tasks/{task_id}", headers=headers, params=parameters, timeout=60
        )
        task: dict[str, Any] = response.raise_for_status().json()
        return task

    times, again = [], []
    for task_id in outside:
        times.append(seconds_of(lambda task_id=task_id: open_task(task_id), 1))
        again.append(seconds_of(lambda task_id=task_id: open_task(task_id), 1))
        shown = open_task(task_id)["predictions"]
        assert shown[0]["model_version"] == served.version
        assert shown[0]["result"][0]["value"]["choices"][0] in CLASSES
    console.print(
        f"Opening a task outside the window: first {times[0]:.2f} s, then median "
        f"{statistics.median(times[1:]):.2f} s (goal: 0.5 s); without asking us, {statistics.median(again):.2f} s."
    )


def acknowledge(deployment: Deployment, project_id: int) -> None:
    """Send webhooks one after the other, first idle, then while rounds run."""
    wait_until(lambda: is_idle(deployment, project_id), 300)
    with deployment.database.read() as session:
        secret = session.get_one(Project, project_id).webhook_secret
    with httpx.Client(base_url=deployment.settings.backend_url, headers={SECRET_HEADER: secret}) as client:

        def send(action: str) -> float:
            body = {"action": action, "project": {"id": project_id}, "task": {"id": 0}, "annotation": {}}
            return seconds_of(lambda: client.post("/webhook", json=body).raise_for_status(), 1) * 1_000

        idle = [send("SOMETHING_ELSE") for _ in range(100)]
        training = []
        for _ in range(5):
            send("START_TRAINING")
            wait_until(lambda: not is_idle(deployment, project_id), 60, pause=0.01)
            while not is_idle(deployment, project_id):
                training.append(send("ANNOTATION_UPDATED"))
    for name, times in (("idle, nothing to record", idle), ("recorded while rounds run", training)):
        median, late = statistics.median(times), statistics.quantiles(times, n=100)[98]
        console.print(
            f"Webhook answered, {name}: median {median:.1f} ms, 99th percentile {late:.1f} ms, {len(times)} sent"
        )


def seconds_of(action: Callable[[], Any], repeat: int = 3) -> float:
    """The least time of some runs."""
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return min(times)


def wait_until(condition: Callable[[], bool], timeout: float, pause: float = 0.2) -> None:
    """Wait; fails after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the loop does not get on; its logs are in the temporary folder")
        time.sleep(pause)


def embedded_count(deployment: Deployment, project_id: int) -> int:
    """How many tasks have an embedding."""
    with deployment.database.read() as session:
        embedded = (Task.project_id == project_id) & Task.embedded.is_not(None)
        return session.scalar(select(func.count()).where(embedded)) or 0


def is_idle(deployment: Deployment, project_id: int) -> bool:
    """Whether no round is under way."""
    with deployment.database.read() as session:
        unfinished = Round.state.in_((RoundState.RUNNING, RoundState.WAITING))
        return session.scalar(select(Round.id).where(Round.project_id == project_id, unfinished)) is None


if __name__ == "__main__":
    main()
