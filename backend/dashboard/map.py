"""The embedding map: all images of a project in the plane, those that look alike together."""

import base64
import gzip
import json
from collections.abc import Sequence

from flask import Response, g, redirect, render_template, request
from sqlalchemy import func, select
from werkzeug.wrappers import Response as Redirect

from backend.access import Refused
from backend.dashboard.blueprint import dashboard, deployment, find_project, page
from backend.dashboard.map_points import KINDS, fingerprint, map_points
from backend.dashboard.queue import in_words
from backend.labelstudio.labeling_config import UnsupportedConfig, read_labeling_config
from backend.learners.tasks import read_stored_target
from backend.loop.projection import FEWEST, current_map
from backend.loop.rounds import latest_round
from backend.store.embeddings import DamagedEmbeddings
from backend.store.tables import Project, QueueEntry, Task
from backend.targets import votes_of

MOST_OPENED = 50  # tasks that a link opens in Label Studio: it names each in the address of its own request


@dashboard.get("/projects/<int:project_id>/map")
def map(project_id: int) -> str:
    """The page; its points are fetched by its script."""
    project = find_project(project_id)
    g.compiles = True
    missing = why_no_map(project) if current_map(deployment(), project_id) is None else None
    return page("map.html.jinja", project, missing=missing, kinds=KINDS, most_opened=MOST_OPENED)


@dashboard.get("/projects/<int:project_id>/map/state")
def map_state(project_id: int) -> Response | str:
    """Why there is no map yet; once there is one, the page is loaded anew."""
    project = find_project(project_id)
    if current_map(deployment(), project_id) is not None:
        return Response(status=204, headers={"HX-Refresh": "true"})
    return why_no_map(project)


@dashboard.get("/projects/<int:project_id>/map/points")
def points(project_id: int) -> Response:
    """All points, see map_points; 304 where the browser has them already."""
    project = find_project(project_id)
    try:
        return _points(project)
    except DamagedEmbeddings:  # or replaced by a new map this very moment
        raise Refused("The map is being made anew; reload the page in a minute.", 404) from None


def _points(project: Project) -> Response:
    tag = fingerprint(deployment(), project)
    if tag is None:
        raise Refused(why_no_map(project), 404)
    response = Response(mimetype="application/octet-stream")
    response.set_etag(tag)
    response.headers["Cache-Control"] = "private, no-cache"  # kept, but asked for each time
    if response.make_conditional(request).status_code == 200:
        response.set_data(map_points(deployment(), project))
    return response


@dashboard.get("/projects/<int:project_id>/tasks/<int:task_id>/card")
def card(project_id: int, task_id: int) -> str:
    """What is known of one task: its picture, what was said of it, why it was chosen."""
    project = find_project(project_id)
    with deployment().database.read() as session:
        task = session.get(Task, (project_id, task_id))
        entry = session.scalar(
            select(QueueEntry).where(
                QueueEntry.round_id == (project.published_round or 0), QueueEntry.task_id == task_id
            )
        )
    if task is None:
        raise Refused(f"Task {task_id} is not known here: it was deleted, or comes with the next round.", 404)
    return render_template(
        "card.html.jinja",
        project=project,
        task=task,
        entry=entry,
        prediction=in_words(entry.prediction) if entry else None,
        answers=_answers(project, task),
    )


@dashboard.get("/projects/<int:project_id>/map/open")
def open_tasks(project_id: int) -> Redirect:
    """Label Studio's data manager with the chosen tasks alone. Nothing is stored there."""
    find_project(project_id)
    chosen = sorted(
        {int(one) for one in request.args.get("tasks", "").split(",") if one.isascii() and one.isdigit()}
    )
    if not chosen:
        raise Refused("No task was chosen: draw a line around some points of the map first.")
    address = f"{deployment().settings.label_studio_for_browsers}/projects/{project_id}/data"
    return redirect(f"{address}?tab={tab_of(chosen[:MOST_OPENED])}")


def tab_of(task_ids: Sequence[int]) -> str:
    """The `tab` in an address of the data manager that shows some tasks alone, without being saved.

    Such a tab is the JSON of a view, compressed by gzip, in URL-safe base64.
    """
    items = [
        {"filter": "filter:tasks:id", "operator": "equal", "type": "Number", "value": task_id}
        for task_id in task_ids
    ]
    view = {"title": "Chosen on the map", "filters": {"conjunction": "or", "items": items}, "ordering": []}
    packed = gzip.compress(json.dumps(view, separators=(",", ":")).encode(), mtime=0)
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def why_no_map(project: Project) -> str:
    """A sentence that says what a map waits for."""
    latest = latest_round(deployment(), project.id)
    embedder = latest.facts.get("embedder") if latest else None
    if embedder is None:
        return "There is no map yet: no image has been embedded. The first round does that, within a minute or so."
    embedded = Task.project_id == project.id, Task.embedded == embedder
    with deployment().database.read() as session:
        count = session.scalar(select(func.count()).select_from(Task).where(*embedded)) or 0
    if count < FEWEST:
        return f"There is no map yet: it takes {FEWEST} embedded images, and there are {count}. Import more images."
    return (
        f"The map of {count:,} images is being drawn by a worker, which takes a minute or so. "
        "This page shows it as soon as it is there."
    )


def _answers(project: Project, task: Task) -> dict[str, list[str]]:
    """What annotators said of a task, by control, in words."""
    try:
        controls = read_labeling_config(project.label_config).controls
    except UnsupportedConfig:
        return {}
    said = {}
    for control in controls:
        if (stored := (task.target or {}).get(control.name)) is not None:
            votes = votes_of(read_stored_target(control, stored))
            said[control.name] = [
                name if share in (0, 1) else f"{name} ({share:.0%})" for name, share in votes.items() if share
            ]
    return said
