"""The pages, and the parts of them that a page fetches again while one looks at it."""

from typing import Any

from flask import Response, jsonify, render_template, request

from backend.dashboard.balance import balances
from backend.dashboard.blueprint import dashboard, deployment, find_project, page
from backend.dashboard.learning_curve import learning_curves
from backend.dashboard.project_list import project_list
from backend.dashboard.queue import PER_PAGE, queue_page
from backend.dashboard.rounds import history, log_of
from backend.dashboard.settings_form import fields
from backend.dashboard.task_lists import MOST, disagreements, label_errors
from backend.loop.actions import earlier_models
from backend.loop.advancing import project_settings
from backend.loop.rounds import latest_round, served_round
from backend.loop.status import activity, broken_images, deviations, learned, why_idle
from backend.settings import LoopSettings
from backend.store.tables import Project, RoundState
from strategies.catalogue import catalogue


@dashboard.get("/")
def projects() -> str:
    """Each project with its state in words."""
    return page("projects.html.jinja", rows=project_list(deployment()))


@dashboard.get("/projects")
def projects_part() -> str:
    """The rows of that page, which it fetches again and again."""
    return render_template("projects_part.html.jinja", rows=project_list(deployment()))


@dashboard.get("/projects/<int:project_id>")
def overview(project_id: int) -> str:
    """What the loop does, how good the model is, what the labels are like."""
    project = find_project(project_id)
    served = served_round(deployment(), project_id)
    return page(
        "overview.html.jinja",
        project,
        **_state(project),
        curves=learning_curves(deployment(), project_id),
        balances=balances(deployment(), served) if served else [],
        open_to_all=deployment().settings.basic_auth is None,
    )


@dashboard.get("/projects/<int:project_id>/state")
def state(project_id: int) -> Response | str:
    """What the loop does now; with a header that has the page load anew once another round is served."""
    project = find_project(project_id)
    shown = _state(project)
    seen = request.args.get("served", type=int)
    if seen is not None and shown["served"] is not None and shown["served"].id != seen:
        return Response(status=204, headers={"HX-Refresh": "true"})
    return render_template("state.html.jinja", project=project, **shown)


@dashboard.get("/projects/<int:project_id>/deviations")
def deviations_part(project_id: int) -> str:
    """What in Label Studio keeps the queue from following the ranking; asks Label Studio, and so may take a while."""
    project = find_project(project_id)
    served = served_round(deployment(), project_id)
    found = [] if why_idle(project) else deviations(deployment(), project, served)
    return render_template("deviations.html.jinja", sentences=found)


@dashboard.get("/projects/<int:project_id>/curves")
def curves(project_id: int) -> Response:
    """The learning curves, for the chart."""
    find_project(project_id)
    return jsonify([curve.to_json() for curve in learning_curves(deployment(), project_id)])


@dashboard.get("/projects/<int:project_id>/queue")
def queue(project_id: int) -> str:
    """The next tasks as thumbnails, each with its prediction and the reason why it was chosen."""
    project = find_project(project_id)
    number = max(1, request.args.get("page", 1, type=int))
    shown, total = queue_page(deployment(), project_id, number)
    return page(
        "queue.html.jinja", project, entries=shown, total=total, number=number, pages=-(-total // PER_PAGE)
    )


@dashboard.get("/projects/<int:project_id>/labels")
def labels(project_id: int) -> str:
    """What may be wrong among the labels and images."""
    project = find_project(project_id)
    served = served_round(deployment(), project_id)
    return page(
        "labels.html.jinja",
        project,
        errors=label_errors(served),
        disagreements=disagreements(served),
        broken=broken_images(deployment(), project_id, MOST),
    )


@dashboard.get("/projects/<int:project_id>/rounds")
def rounds(project_id: int) -> str:
    """All rounds, their durations and logs, and the models that one can go back to."""
    project = find_project(project_id)
    served = served_round(deployment(), project_id)
    return page(
        "rounds.html.jinja",
        project,
        rounds=history(deployment(), project_id),
        served=served,
        can_serve_again={one.number for one in earlier_models(deployment(), project_id)},
    )


@dashboard.get("/projects/<int:project_id>/rounds/<int:number>/log")
def round_log(project_id: int, number: int) -> str:
    """What the worker wrote about a round; while it runs, the page asks again."""
    text, running = log_of(deployment(), project_id, number)
    return render_template("round_log.html.jinja", text=text, running=running)


@dashboard.get("/projects/<int:project_id>/settings")
def settings(project_id: int) -> str:
    """The loop's settings, where each comes from, and what another choice would make of the queue."""
    project = find_project(project_id)
    return page("settings.html.jinja", project, fields=fields(project), strategies=catalogue())


@dashboard.get("/projects/<int:project_id>/preview")
def preview(project_id: int) -> str:
    """The queue under other settings, as far as a worker has made it."""
    return preview_part(find_project(project_id))


def preview_part(project: Project) -> str:
    """The queue under other settings beside the present one."""
    now, _ = queue_page(deployment(), project.id, 1)
    return render_template("preview.html.jinja", project=project, preview=project.preview, now=now)


def _state(project: Project) -> dict[str, Any]:
    idle = why_idle(project)
    served, latest = served_round(deployment(), project.id), latest_round(deployment(), project.id)
    sentences = [idle] if idle else activity(deployment(), project, _settings(project))
    return {
        "sentences": sentences,
        "learned": learned(deployment(), served) if served else [],
        "served": served,
        "running": latest is not None and latest.state == RoundState.RUNNING,
        "idle": idle is not None,
        "stop": served.facts.get("stop") if served else None,
        "facts": served.facts if served else {},
    }


def _settings(project: Project) -> LoopSettings:
    return project_settings(deployment(), project.id) or LoopSettings()
