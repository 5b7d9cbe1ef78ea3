"""The demo: a real Label Studio, the backend and its worker, and a project of handwritten digits."""

import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pydantic import SecretStr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from sqlalchemy import select

from backend.demo.annotator import Annotator
from backend.demo.backend import BackendProcesses
from backend.demo.comparison import compare
from backend.demo.label_studio import LabelStudioServer
from backend.demo.project import CLASSES, LABEL_CONFIG, create_project, write_digits
from backend.deployment import Deployment
from backend.labelstudio.client import LabelStudio, ProjectNotFound
from backend.learners.embedding import SELF_SUPERVISED
from backend.loop.connection import connect
from backend.loop.events import pending_events
from backend.loop.jobs import Jobs
from backend.loop.rounds import latest_round
from backend.loop.triggers import labels_waiting
from backend.settings import LoopSettings, Settings
from backend.store.tables import Project, Round, RoundState, Task

FOLDER = Path("data/demo")
CONTROL, IMAGE = "digit", "image"
CHECKPOINTS = (20, 30, 50, 75, 100, 150, 200, 300, 400, 600, 800, 1_000)
FIRST_WINDOW_SECONDS = 300.0

console = Console()


class DemoError(Exception):
    """The demo cannot go on; the message says why and what to do."""


def run_demo(annotate: int, port: int, backend_port: int) -> None:
    """Start everything, resume what an earlier run left, and keep going until Ctrl-C or the labels are done."""
    with ExitStack() as stack:
        stack.enter_context(_stopping_on_signals())
        label_studio = LabelStudioServer(
            FOLDER / "label-studio",
            _free_port(port, "Label Studio", taken=backend_port),
            local_files=FOLDER / "images",
        )
        first = not (FOLDER / "label-studio" / "credentials.json").exists()
        with console.status("Starting Label Studio" + (" (the first time takes a minute)" if first else "")):
            stack.enter_context(label_studio)
        project_id, truth = _project(label_studio)
        settings = _settings(label_studio, _free_port(backend_port, "the backend", taken=label_studio.port))
        with console.status("Starting the backend and its worker"):
            backend = stack.enter_context(BackendProcesses(_environment(settings)))
        deployment = Deployment(settings)
        with console.status("Connecting the project and choosing the first tasks"):
            if connect(deployment, project_id, backend_url=backend.url):
                Jobs(deployment).nudge(project_id)
            _wait_for_first_window(deployment, project_id, backend)
        served = latest_round(deployment, project_id)
        if served and str(served.facts.get("embedder")).startswith(SELF_SUPERVISED):
            console.print(
                "No pretrained model could be had from the hub, so the images are embedded by a network that was "
                "trained on themselves, just now."
            )
        console.print(
            f"\n[bold]Label Studio:[/bold]  {label_studio.url}/projects/{project_id}\n"
            f"[bold]Log in with:[/bold]   {label_studio.email}   {label_studio.password}\n"
            f"[bold]Dashboard:[/bold]     {backend.url}/projects/{project_id}\n"
            "Press [bold]Label All Tasks[/bold]: the order is the loop's, and it changes after every "
            f"{LoopSettings().labels_per_round} labels.\n"
            f"Logs: {FOLDER}/backend/*.log. `make demo` again resumes; deleting {FOLDER} starts anew.\n",
            highlight=False,
        )
        if annotate:
            _play(deployment, label_studio, project_id, truth, annotate, backend)
            return
        console.print("Ctrl-C stops everything.")
        _watch(deployment, project_id, backend)


@contextmanager
def _stopping_on_signals() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does, so that nothing is left running."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _project(label_studio: LabelStudioServer) -> tuple[int, dict[int, int]]:
    """The project's number, and the digit that each of its tasks shows; made on the first run."""
    images = FOLDER / "images" / "digits"
    with console.status("Writing 1,797 handwritten digits as images"):
        names, digits = write_digits(images)
    client = LabelStudio(label_studio.url, label_studio.api_key)
    note = FOLDER / "project.json"
    project_id = json.loads(note.read_text())["project"] if note.exists() else None
    try:
        if project_id is not None:
            client.project(project_id)
    except ProjectNotFound:
        project_id = None
    if project_id is None:
        with console.status("Creating the project"):
            project_id = create_project(
                label_studio.url, label_studio.api_key, "Handwritten digits", LABEL_CONFIG, images, names
            )
        note.write_text(json.dumps({"project": project_id}))
    digit_of = dict(zip(names, map(int, digits), strict=True))
    return project_id, {
        task.id: digit_of[task.data["image"].rpartition("/")[2]] for task in client.tasks(project_id)
    }


def _settings(label_studio: LabelStudioServer, port: int) -> Settings:
    return Settings(
        label_studio_url=label_studio.url,
        label_studio_api_key=SecretStr(label_studio.api_key),
        backend_url=f"http://127.0.0.1:{port}",
        model_dir=(FOLDER / "backend").absolute(),
        port=port,
        host="127.0.0.1",
    )


def _environment(settings: Settings) -> dict[str, str]:
    return {
        "LABEL_STUDIO_URL": settings.label_studio_url,
        "LABEL_STUDIO_API_KEY": settings.label_studio_api_key.get_secret_value(),
        "BACKEND_URL": settings.backend_url,
        "MODEL_DIR": str(settings.model_dir),
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "PORT": str(settings.port),
    }


def _free_port(wanted: int, who: str, *, taken: int) -> int:
    """The wanted port, or the next free one, with a word about it; not the one that another server is to have."""
    for port in range(wanted, wanted + 50):
        if port == taken:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port != wanted:
            console.print(f"Port {wanted} is in use; {who} takes {port} instead.", highlight=False)
        return port
    raise DemoError(f"No free port for {who} between {wanted} and {wanted + 49}; stop some other program.")


def _wait_for_first_window(deployment: Deployment, project_id: int, backend: BackendProcesses) -> None:
    deadline = time.monotonic() + FIRST_WINDOW_SECONDS
    told = None
    while True:
        with deployment.database.read() as session:
            project = session.get_one(Project, project_id)
        if project.published_round is not None:
            return
        latest = latest_round(deployment, project_id)
        if not backend.running("worker") or time.monotonic() > deadline:
            error = (latest.error if latest else None) or backend.log_tail("worker")
            raise DemoError(f"The first round does not finish: {error}")
        if latest and latest.error and latest.error != told:
            console.print(f"The first round waits: {latest.error}", highlight=False)
            told = latest.error
        time.sleep(0.2)


def _watch(deployment: Deployment, project_id: int, backend: BackendProcesses) -> None:
    """Tell each round as it happens, until Ctrl-C."""
    told = _tell_rounds(deployment, project_id, -1, None)
    while True:
        if not backend.running("serve") or not backend.running("worker"):
            raise DemoError(f"A process of the backend has ended; see {FOLDER}/backend/*.log")
        told = _tell_rounds(deployment, project_id, told, console)
        time.sleep(0.5)


def _tell_rounds(deployment: Deployment, project_id: int, told: int, to: Console | None) -> int:
    """Print the rounds done since that with the id `told`; returns the id of the last one."""
    with deployment.database.read() as session:
        done = (Round.project_id == project_id) & (Round.state == RoundState.DONE) & (Round.id > told)
        for row in session.scalars(select(Round).where(done).order_by(Round.id)):
            if to is not None:
                to.print(_round_line(row), highlight=False)
            told = row.id
    return told


def _round_line(done: Round) -> str:
    facts = done.facts
    (of_control,) = facts["controls"].values()
    if measured := of_control.get("measured"):
        low, high = measured["interval"]
        accuracy = (
            f"accuracy {measured['score']:.0%} ({low:.0%} to {high:.0%}) on {measured['total']} audit tasks"
        )
    elif of_control["cold_start"]:
        accuracy = f"cold start: {of_control['cold_start']}"
    else:
        accuracy = "no audit task labeled yet"
    return f"Round {done.number}: {facts['labels']} labels, {accuracy}; {sum(done.seconds.values()):.1f} s"


def _play(
    deployment: Deployment,
    label_studio: LabelStudioServer,
    project_id: int,
    truth: dict[int, int],
    count: int,
    backend: BackendProcesses,
) -> None:
    """Play the annotator for `count` labels, then compare the order with a random one."""
    annotator = Annotator(label_studio.url, label_studio.api_key, project_id)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("labels"),
        TimeElapsedColumn(),
    )
    told = _tell_rounds(deployment, project_id, -1, None)
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("Annotating", total=count)
        for _ in range(count):
            task = annotator.next_task()
            if task is None:
                console.print("Every task is labeled.")
                break
            annotator.choose(task.id, CONTROL, IMAGE, [CLASSES[truth[task.id]]])
            progress.advance(bar)
            _let_round_run(deployment, project_id, progress, bar, backend)
            told = _tell_rounds(deployment, project_id, told, progress.console)
    console.print(_comparison(deployment, label_studio, project_id, truth))


def _let_round_run(
    deployment: Deployment, project_id: int, progress: Progress, bar: TaskID, backend: BackendProcesses
) -> None:
    """Wait while a round is due or running: a person would be slower than it."""
    while True:
        with deployment.database.read() as session:
            project = session.get_one(Project, project_id)
        latest = latest_round(deployment, project_id)
        busy = latest is None or latest.state in (RoundState.RUNNING, RoundState.WAITING)
        due = labels_waiting(pending_events(deployment.database, project)) >= LoopSettings().labels_per_round
        if not busy and not due:
            break
        if not backend.running("worker"):
            raise DemoError(f"The worker has ended; see {backend.log('worker')}")
        if latest is not None:
            progress.update(bar, description=f"Round {latest.number}: {latest.step}")
        time.sleep(0.1)
    progress.update(bar, description="Annotating")


def _comparison(
    deployment: Deployment, label_studio: LabelStudioServer, project_id: int, truth: dict[int, int]
) -> Table:
    """Labels against accuracy, for the order in which the tasks were labeled and for random orders."""
    with console.status("Comparing with random order"):
        served = latest_round(deployment, project_id)
        embedder = served.facts["embedder"] if served else ""
        ids, vectors = deployment.embeddings.read(project_id, embedder)
        with deployment.database.read() as session:
            audit = select(Task.id).where(Task.project_id == project_id, Task.audit)
            test = frozenset(session.scalars(audit))
        rows = compare(
            _labeling_order(label_studio, project_id),
            truth,
            dict(zip(ids.tolist(), vectors, strict=True)),
            test,
            CLASSES,
            CHECKPOINTS,
            LoopSettings(),
        )
    table = Table(title=f"Accuracy on {len(test)} randomly drawn digits that neither order trains on")
    for heading in ("Labels", "The loop's order", "Random order"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(str(row.labels), f"{row.loop:.1%}", f"{row.random:.1%}")
    return table


def _labeling_order(label_studio: LabelStudioServer, project_id: int) -> list[int]:
    """Ids of the labeled tasks, the first labeled first."""
    client = LabelStudio(label_studio.url, label_studio.api_key)
    labeled = [task for task in client.tasks(project_id) if task.is_labeled]
    return [task.id for task in sorted(labeled, key=lambda t: min(a["created_at"] for a in t.annotations))]
