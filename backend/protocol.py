"""The routes that Label Studio calls.

Label Studio shows a failing backend's HTTP reason phrase to the person and nothing of the body, so that is
where the sentence goes. It calls /health and /setup before nearly everything else: both are cheap.
"""

import hmac
import json
import logging
import secrets
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Flask, Response, current_app, jsonify, request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from sqlalchemy import select
from werkzeug.exceptions import HTTPException

from backend.labelstudio.client import LabelStudioError
from backend.labelstudio.labeling_config import UnsupportedConfig
from backend.loop import events
from backend.loop.connection import setup_called
from backend.loop.jobs import Jobs
from backend.loop.prediction import answer
from backend.settings import InvalidSettings
from backend.store.tables import Project, ProjectState, Round, RoundState

log = logging.getLogger(__name__)
routes = Blueprint("protocol", __name__)

LONGEST_REASON = 1_000  # characters; a reason phrase must fit on the status line, and name all strategies


class Refused(Exception):
    """A request that cannot be served; the message is for the person in front of Label Studio."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class ProjectReference(BaseModel):
    """`ID.unix_created`, as Label Studio names a project to its backends."""

    id: int
    created: int = 0

    @classmethod
    def parse(cls, text: Any) -> "ProjectReference":
        """Read the reference; the part after the dot may lack, or have decimals."""
        project_id, _, created = str(text).partition(".")
        return cls(id=int(project_id), created=int(created.partition(".")[0] or 0))


class FromLabelStudio(BaseModel):
    """A request body; what we do not use is ignored."""

    model_config = ConfigDict(extra="ignore")
    project: ProjectReference

    @field_validator("project", mode="before")
    @classmethod
    def _parse_project(cls, value: Any) -> ProjectReference:
        try:
            return ProjectReference.parse(value)
        except ValueError:
            raise ValueError('must be "ID.created", as in "3.1760000000"') from None


class SetupRequest(FromLabelStudio):
    """Body of /setup."""

    label_config: str = Field(alias="schema")
    extra_params: dict[str, Any] = Field(default_factory=dict)

    @field_validator("extra_params", mode="before")
    @classmethod
    def _parse_text(cls, value: Any) -> Any:
        if isinstance(value, str) and value.strip():
            try:
                return json.loads(value)
            except json.JSONDecodeError as error:
                raise ValueError(f"not JSON: {error}") from None
        return value or {}


class TaskToPredict(BaseModel):
    """A task in the body of /predict."""

    model_config = ConfigDict(extra="ignore")
    id: int
    data: dict[str, Any] = Field(default_factory=dict)


class PredictRequest(FromLabelStudio):
    """Body of /predict; its `params.context` tells an interactive request, which we answer like any other."""

    tasks: list[TaskToPredict]
    label_config: str


class WebhookProject(BaseModel):
    """The project in a webhook's payload."""

    model_config = ConfigDict(extra="allow")
    id: int


class WebhookRequest(BaseModel):
    """Body of /webhook."""

    model_config = ConfigDict(extra="allow")
    action: str
    project: WebhookProject


def register(app: Flask) -> None:
    """Add the routes and the answers to errors."""
    app.register_blueprint(routes)
    app.register_error_handler(Refused, lambda error: _error(error.status, str(error)))
    app.register_error_handler(UnsupportedConfig, lambda error: _error(400, str(error)))
    app.register_error_handler(InvalidSettings, lambda error: _error(400, str(error)))
    app.register_error_handler(LabelStudioError, lambda error: _error(502, str(error)))
    app.register_error_handler(ValidationError, lambda error: _error(400, _first_problem(error)))
    app.register_error_handler(
        HTTPException, lambda error: _error(error.code or 500, error.description or "")
    )
    app.register_error_handler(Exception, _unexpected)


@routes.get("/health")
def health() -> Response:
    """Tell that we are here."""
    return jsonify({"status": "UP", "model_class": "ActiveLearning"})


@routes.post("/setup")
def setup() -> Response:
    """Label Studio connects the backend, or polls it."""
    _require_basic_auth()
    body = SetupRequest.model_validate(_json())
    jobs = _jobs()
    if not jobs.deployment.settings.label_studio_api_key.get_secret_value():
        raise Refused(
            "The backend has no LABEL_STUDIO_API_KEY: create an access token in Label Studio under "
            "Account & Settings and restart the backend with it"
        )
    _ = jobs.deployment.label_studio  # refuses a key that cannot be one; sends nothing
    return jsonify({"model_version": take_setup(jobs, body, request.url_root)})


def take_setup(jobs: Jobs, body: SetupRequest, url: str) -> str:
    """Note what /setup says, and nudge a worker where there is work; returns the model version that is served.

    url: under which Label Studio called us.
    """
    project, backend_url = body.project, url.rstrip("/")
    version, has_work = setup_called(
        jobs.deployment, project.id, project.created, body.label_config, body.extra_params, backend_url
    )
    if has_work:
        jobs.nudge(project.id)
    return version


@routes.post("/predict")
def predict() -> Response:
    """Exactly one prediction for each task."""
    _require_basic_auth()
    body = PredictRequest.model_validate(_json())
    tasks = [task.model_dump() for task in body.tasks]
    return jsonify({"results": answer(_jobs().deployment, body.project.id, body.label_config, tasks)})


@routes.post("/webhook")
def webhook() -> tuple[Response, int]:
    """Commit an event, then answer; the work is done elsewhere."""
    body = WebhookRequest.model_validate(_json())
    jobs = _jobs()
    if body.action == events.START_TRAINING:
        _require_basic_auth()  # it comes over the backend's connection, without the webhook's secret
    elif not _has_basic_auth():
        given = request.headers.get(events.SECRET_HEADER)
        if not events.secret_matches(jobs.deployment.database, body.project.id, given):
            raise Refused("The webhook lacks the secret of its project: run `active-learning connect`", 401)
    recorded = jobs.take_event(body.action, body.project.id, body.model_dump())
    return jsonify({"status": "recorded" if recorded else "ignored"}), 200


@routes.get("/versions")
def versions() -> Response:
    """The model versions that are served; Label Studio does not say for which project it asks."""
    _require_basic_auth()
    with _jobs().deployment.database.read() as session:
        served = select(Round.version).join(Project, Project.published_round == Round.id)
        return jsonify(
            {"versions": list(session.scalars(served.where(Project.state == ProjectState.ACTIVE)))}
        )


@routes.get("/is_training")
def is_training() -> Response:
    """Whether a round is under way in any project."""
    _require_basic_auth()
    with _jobs().deployment.database.read() as session:
        running = session.scalar(select(Round.id).where(Round.state == RoundState.RUNNING).limit(1))
    return jsonify({"is_training": running is not None})


def _jobs() -> Jobs:
    jobs: Jobs = current_app.extensions["jobs"]
    return jobs


def _json() -> Mapping[str, Any]:
    body = request.get_json(force=True, silent=True)
    if not isinstance(body, dict):
        raise Refused("The request's body is not a JSON object")
    return body


def _require_basic_auth() -> None:
    if _jobs().deployment.settings.basic_auth is not None and not _has_basic_auth():
        raise Refused(
            "Wrong user or password: in Label Studio, edit the model and enter BASIC_AUTH_USER and "
            "BASIC_AUTH_PASS of the backend",
            401,
        )


def _has_basic_auth() -> bool:
    """Whether the request carries the configured user and password; compared in constant time."""
    expected, given = _jobs().deployment.settings.basic_auth, request.authorization
    if expected is None or given is None or given.type != "basic":
        return False
    user = hmac.compare_digest((given.username or "").encode(), expected[0].encode())
    password = hmac.compare_digest((given.password or "").encode(), expected[1].encode())
    return user and password


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"])) or "body"
    return f"Field {field}: {first['msg'].removeprefix('Value error, ')}"


def _error(status: int, message: str) -> Response:
    """An error whose sentence stands in the reason phrase, for Label Studio, and in the body, for others."""
    response = jsonify({"error": message})
    ascii_message = message.replace("→", ">").replace("…", "...").encode("ascii", "replace").decode()
    phrase = " ".join(ascii_message.split())[:LONGEST_REASON]
    response.status = f"{status} {phrase}"
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="active learning"'
    return response


def _unexpected(error: Exception) -> Response:
    """What we did not foresee: the log gets all of it, the caller a reference to it."""
    reference = secrets.token_hex(4)
    log.error("unexpected error %s in %s", reference, request.path, exc_info=error)
    return _error(500, f"Unexpected error {reference}: the backend's log tells what happened")
