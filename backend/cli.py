"""The command line: `active-learning`."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from sqlalchemy import select

from backend.deployment import Deployment
from backend.failures import fail, failures
from backend.loop.connection import connect as connect_project
from backend.loop.connection import disconnect as disconnect_project
from backend.loop.jobs import Jobs, project_settings
from backend.loop.status import describe
from backend.settings import Settings
from backend.simulation.command import simulate
from backend.store.tables import Project

app = typer.Typer(
    help="Active learning for Label Studio: the next task is always the one worth labeling.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
console = Console()
ProjectOption = Annotated[int, typer.Option("--project", help="Number of the project, as in its URL.")]


@app.command()
def connect(project: ProjectOption) -> None:
    """Take an existing project to a working loop. Running it twice changes nothing."""
    with failures(), _deployment() as deployment:
        changed = connect_project(deployment, project, backend_url=deployment.settings.backend_url)
        if changed:
            Jobs(deployment).nudge(project)
        told = "is connected, and the loop starts" if changed else "was connected already"
        console.print(f"Project {project} {told}. `active-learning status` tells what the loop is doing.")


@app.command()
def disconnect(project: ProjectOption) -> None:
    """Put a project back as it was before `connect`. Its labels stay."""
    with failures(), _deployment() as deployment:
        disconnect_project(deployment, project)
        console.print(f"Project {project} is disconnected.")


@app.command()
def status(
    project: Annotated[int | None, typer.Option("--project", help="Only this project.")] = None,
) -> None:
    """Tell what the loop is doing and why the queue is as it is."""
    with failures(), _deployment(patience=5) as deployment:  # a person waits for it
        with deployment.database.read() as session:
            query = select(Project).order_by(Project.id)
            projects = list(session.scalars(query if project is None else query.where(Project.id == project)))
        if not projects:
            fail("No such project is connected: run `active-learning connect --project NUMBER`.")
        for row in projects:
            console.print(f"[bold]Project {row.id}[/bold] {row.title}", highlight=False)
            for sentence in describe(deployment, row, project_settings(deployment, row.id)):
                console.print(f"  {sentence}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def demo(
    annotate: Annotated[int, typer.Option(help="Play the annotator for so many labels, then stop.")] = 0,
    port: Annotated[int, typer.Option(help="Port of Label Studio.")] = 8080,
    backend_port: Annotated[int, typer.Option(help="Port of the backend.")] = 9090,
) -> None:
    """Try the whole loop on a Label Studio of its own, with handwritten digits."""
    try:
        from backend.demo.backend import BackendStartError
        from backend.demo.demo import DemoError, run_demo
        from backend.demo.label_studio import LabelStudioStartError
    except ImportError as error:
        fail(f"The demo needs a package that is not installed: {error.name}. `make demo` installs it.")
    with failures():
        try:
            run_demo(annotate, port, backend_port)
        except (DemoError, LabelStudioStartError, BackendStartError) as error:
            fail(str(error))
        except KeyboardInterrupt:
            console.print("Stopped. `make demo` resumes.")


@app.command()
def serve() -> NoReturn:
    """Serve Label Studio's calls, with gunicorn."""
    with failures():
        settings = Settings()
        deployment = Deployment(settings)
        deployment.prepare()  # once, before several processes would
        Jobs(deployment).reconcile_soon()
    arguments = [
        "--bind",
        f"{settings.host}:{settings.port}",
        "--workers",
        "2",
        "--threads",
        "8",
        "--no-control-socket",
    ]
    os.execvp("gunicorn", ["gunicorn", *arguments, "--timeout", "300", "backend.app:create_app()"])


@app.command()
def worker() -> None:
    """Run the rounds. Several workers may run, on one machine or on many."""
    with failures(), _deployment() as deployment:
        os.nice(5)  # answering Label Studio goes before training
        Jobs(deployment).run_worker()


@app.command()
def faces(
    project: ProjectOption,
    out: Annotated[Path, typer.Option(help="Folder for faces.png and faces.json.")],
) -> None:
    """Show which parts of the face and which dimensions of the embedding tell confusable people apart."""
    from backend.labelstudio.media import MediaError, MediaUnavailable
    from backend.learners.faces.feature_plot import plot_feature_report
    from backend.loop.face_report import NoFaces, report_on_faces

    with failures(), _deployment(patience=5) as deployment:
        try:
            with console.status("Covering parts of faces and looking again"):
                report = report_on_faces(deployment, project)
        except (NoFaces, MediaError, MediaUnavailable) as error:
            fail(str(error))
        out.mkdir(parents=True, exist_ok=True)
        plot_feature_report(report, out / "faces.png")
        (out / "faces.json").write_text(json.dumps(report.to_json(), indent=1) + "\n")
        for pair in report.pairs:
            first, second = pair.people
            console.print(f"{first} and {second}: a lead of {pair.margin:.2f}", highlight=False, markup=False)
        console.print(f"Written to {out}: faces.png, faces.json", highlight=False, markup=False)


app.command()(simulate)


@contextmanager
def _deployment(patience: float = 60) -> Iterator[Deployment]:
    deployment = Deployment(Settings(), patience)
    deployment.prepare()
    yield deployment
