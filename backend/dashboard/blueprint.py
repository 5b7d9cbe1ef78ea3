"""The blueprint that all pages and actions belong to, and what holds for each of them."""

import secrets
from typing import Any

from flask import Blueprint, Response, g, render_template, request

from backend.access import Refused, jobs_of_app, may_change, require_same_origin, require_viewer
from backend.deployment import Deployment
from backend.store.tables import Project

dashboard = Blueprint(
    "dashboard",
    __name__,
    template_folder="templates",
    static_folder="static",
    static_url_path="/static/dashboard",
)

CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
FROM_HERE_ONLY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'nonce-{nonce}'{more}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@dashboard.before_request
def _guard() -> None:
    require_viewer()
    if request.method in CHANGES:
        if not may_change():
            raise Refused(
                "You may look but not change, so nothing was done: sign in with BASIC_AUTH_USER to change things.",
                403,
            )
        require_same_origin()
    g.nonce = secrets.token_urlsafe(16)


@dashboard.after_request
def _from_here_only(response: Response) -> Response:
    """Have the browser load and run nothing from elsewhere, and show the page in no other's frame."""
    # The library that draws the map compiles its shaders' bindings when it starts.
    more = " 'unsafe-eval'" if getattr(g, "compiles", False) else ""
    policy = FROM_HERE_ONLY.format(nonce=getattr(g, "nonce", ""), more=more)
    response.headers.setdefault("Content-Security-Policy", policy)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "same-origin")
    if request.endpoint != "dashboard.static":
        response.headers.setdefault("Cache-Control", "no-store")
    return response


def deployment() -> Deployment:
    """Of the application that serves the request."""
    return jobs_of_app().deployment


def find_project(project_id: int) -> Project:
    """A project that is or was connected. Raises Refused for another."""
    with deployment().database.read() as session:
        project = session.get(Project, project_id)
    if project is None:
        raise Refused(
            f"No project {project_id} is connected. `active-learning connect --project {project_id}` connects it.",
            404,
        )
    return project


def page(template: str, project: Project | None = None, **values: Any) -> str:
    """A whole page; `project` shows its tabs."""
    return render_template(template, project=project, **values)


@dashboard.context_processor
def _for_all_templates() -> dict[str, Any]:
    return {
        "nonce": getattr(g, "nonce", ""),
        "label_studio": deployment().settings.label_studio_for_browsers,
        "may_change": may_change(),
    }
