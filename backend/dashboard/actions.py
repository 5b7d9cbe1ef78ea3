"""What one can do on the pages. Each answers with a part of a page, or sends the browser back to one."""

from flask import Response, redirect, request, url_for
from werkzeug.wrappers import Response as Redirect

from backend.access import jobs_of_app
from backend.dashboard.blueprint import dashboard, deployment, find_project, page
from backend.dashboard.export import labeled_csv
from backend.dashboard.pages import preview_part
from backend.dashboard.settings_form import changes, fields
from backend.labelstudio.labeling_config import read_labeling_config
from backend.loop.actions import NotPossible, change_settings, roll_back, set_paused
from backend.loop.events import START_TRAINING
from backend.settings import LoopSettings
from backend.store.tables import Project, ProjectState
from strategies.catalogue import catalogue


@dashboard.post("/projects/<int:project_id>/start")
def start(project_id: int) -> Redirect:
    """Start a round, as Label Studio's Start training does."""
    _running(project_id)
    jobs_of_app().take_event(START_TRAINING, project_id, {})
    return _back(project_id)


@dashboard.post("/projects/<int:project_id>/pause")
def pause(project_id: int) -> Redirect:
    """Have no round train until the loop is resumed."""
    _running(project_id)
    set_paused(deployment(), project_id, True)
    return _back(project_id)


@dashboard.post("/projects/<int:project_id>/resume")
def resume(project_id: int) -> Redirect:
    """Go on; what was labeled meanwhile counts at once."""
    _running(project_id)
    set_paused(deployment(), project_id, False)
    jobs_of_app().nudge(project_id)
    return _back(project_id)


@dashboard.post("/projects/<int:project_id>/rounds/<int:number>/serve")
def serve_again(project_id: int, number: int) -> Redirect:
    """Go back to the model of an earlier round."""
    _running(project_id)
    roll_back(deployment(), project_id, number)
    jobs_of_app().nudge(project_id)
    return _back(project_id)


@dashboard.post("/projects/<int:project_id>/settings")
def save_settings(project_id: int) -> str:
    """Write what was changed into the extra params of our backend in Label Studio."""
    project = _running(project_id)
    changed = changes(request.form, project)
    change_settings(deployment(), project, changed)
    jobs_of_app().nudge(project_id)
    shown = fields(find_project(project_id))
    return page("settings.html.jinja", project, fields=shown, strategies=catalogue(), saved=sorted(changed))


@dashboard.post("/projects/<int:project_id>/preview")
def ask_for_preview(project_id: int) -> str:
    """Have a worker rank the pool as it would be under the settings in the form."""
    project = _running(project_id)
    merged = {**project.extra_params, **changes(request.form, project)}
    extra_params = {name: value for name, value in merged.items() if value is not None}
    LoopSettings.resolve(
        read_labeling_config(project.label_config).settings, extra_params
    )  # refuses wrong ones now
    jobs_of_app().preview(project_id, extra_params)
    return preview_part(find_project(project_id))


@dashboard.get("/projects/<int:project_id>/labeled.csv")
def export(project_id: int) -> Response:
    """The labeled set: what annotators said, task by task."""
    project = find_project(project_id)
    headers = {"Content-Disposition": f"attachment; filename=project-{project.id}-labeled.csv"}
    return Response(labeled_csv(deployment(), project), mimetype="text/csv", headers=headers)


def _running(project_id: int) -> Project:
    project = find_project(project_id)
    if project.state != ProjectState.ACTIVE:
        raise NotPossible(
            f"The loop of this project does not run. `active-learning connect --project {project_id}` starts it; "
            "nothing was changed."
        )
    return project


def _back(project_id: int) -> Redirect:
    return redirect(url_for("dashboard.overview", project_id=project_id), 303)
