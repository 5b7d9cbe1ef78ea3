"""The commands that connect a project and tell of it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from backend.cli.deployed import (
    QUICK,
    OnlyProjectOption,
    ProjectOption,
    connected_project,
    connected_projects,
    deployed,
)
from backend.cli.terminal import JsonOption, console, print_json, print_table, print_text


def connect(project: ProjectOption, as_json: JsonOption = False) -> None:
    """Take an existing project to a working loop. Running it twice changes nothing."""
    from backend.loop.connection import connect as connect_project
    from backend.loop.jobs import Jobs

    with deployed() as deployment:
        changed = connect_project(deployment, project, backend_url=deployment.settings.backend_url)
        if changed:
            Jobs(deployment).nudge(project)
        if as_json:
            print_json({"project": project, "changed": changed})
            return
        told = "is connected, and the loop starts" if changed else "was connected already"
        console.print(f"Project {project} {told}. `active-learning status` tells what the loop is doing.")


def disconnect(project: ProjectOption, as_json: JsonOption = False) -> None:
    """Put a project back as it was before `connect`. Its labels stay."""
    from backend.loop.connection import disconnect as disconnect_project

    with deployed() as deployment:
        connected_project(deployment, project)
        disconnect_project(deployment, project)
        if as_json:
            print_json({"project": project})
            return
        console.print(f"Project {project} is disconnected.")


def status(project: OnlyProjectOption = None, as_json: JsonOption = False) -> None:
    """Tell what the loop is doing and why the queue is as it is."""
    from backend.cli.facts import status_facts

    with deployed(QUICK) as deployment:
        projects = connected_projects(deployment, project)
        if as_json:
            print_json({"projects": [status_facts(deployment, row) for row in projects]})
            return
        from backend.loop.advancing import project_settings
        from backend.loop.status import describe

        for row in projects:
            console.print(f"[bold]Project {row.id}[/bold]", end=" ", highlight=False)
            print_text(row.title)
            for sentence in describe(deployment, row, project_settings(deployment, row.id)):
                print_text(f"  {sentence}")


LimitOption = Annotated[int, typer.Option(min=1, help="How many to show.")]


def rounds(project: ProjectOption, limit: LimitOption = 20, as_json: JsonOption = False) -> None:
    """List the rounds of a project, the newest first: why each was, what was learned, how long each step took."""
    from backend.cli.facts import round_facts
    from backend.cli.shown import shown_round

    with deployed() as deployment:
        connected_project(deployment, project)
        found = round_facts(deployment, project, limit)
        if as_json:
            print_json({"project": project, "rounds": found})
        elif not found:
            console.print(f"Project {project} has no round yet: is `active-learning worker` running?")
        else:
            print_table(
                ("Round", "Started", "Labels", "Measured", "Because; seconds by step"),
                list(map(shown_round, found)),
            )


def queue(project: ProjectOption, limit: LimitOption = 20, as_json: JsonOption = False) -> None:
    """List the tasks that nobody has labeled yet, in the order in which they are served, each with its reason."""
    from backend.cli.facts import queue_facts
    from backend.cli.shown import shown_entry

    with deployed() as deployment:
        connected_project(deployment, project)
        found = queue_facts(deployment, project, limit)
        if as_json:
            print_json({"project": project, **found})
        elif not found["tasks"]:
            console.print(
                f"No task of project {project} waits in a queue; `active-learning status` tells why."
            )
        else:
            print_table(
                ("Rank", "Task", "Where", "Prediction", "Chosen because"),
                list(map(shown_entry, found["tasks"])),
            )
            console.print(
                f"{found['waiting']} in the window, {found['reserve']} in reserve, under {found['version']}.",
                highlight=False,
            )


def faces(
    project: ProjectOption,
    out: Annotated[Path, typer.Option(help="Folder for faces.png and faces.json.")],
) -> None:
    """Show which parts of the face and which dimensions of the embedding tell confusable people apart."""
    from backend.failures import fail
    from backend.labelstudio.media import MediaError, MediaUnavailable
    from backend.learners.faces.feature_plot import plot_feature_report
    from backend.loop.face_report import NoFaces, report_on_faces

    with deployed(QUICK) as deployment:
        connected_project(deployment, project)
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
            print_text(f"{first} and {second}: a lead of {pair.margin:.2f}")
        print_text(f"Written to {out}: faces.png, faces.json")
