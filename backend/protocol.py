"""The routes that Label Studio calls.

Label Studio shows a failing backend's HTTP reason phrase to the person and nothing of the body, so that is
where the sentence goes. It calls /health and /setup before nearly everything else: both are cheap.
"""

import json
import logging
import secrets
import time
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Flask, Response, g, jsonify, request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException

from backend import logs
from backend.access import (
    Refused,
    has_basic_auth,
    jobs_of_app,
    may_change,
    require_basic_auth,
    require_same_origin,
    require_viewer,
)
from backend.labelstudio.client import LabelStudioError
from backend.labelstudio.labeling_config import UnsupportedConfig
from backend.loop import events
from backend.loop.connection import PerhapsAnother, setup_called
from backend.loop.jobs import Jobs
from backend.loop.prediction import NO_MODEL_VERSION, answer
from backend.metrics import ERRORS, EVENTS, PREDICTIONS, REQUESTS, exposition
from backend.settings import InvalidSettings
from backend.store.database import AWAY, is_outage
from backend.store.storage import StorageUnavailable
from backend.store.tables import LARGEST_ID, Project, ProjectState, Round, RoundState

log = logging.getLogger(__name__)
routes = Blueprint("protocol", __name__)

SMALL_BODY = 4 << 20  # bytes of a body: a labeling config and its extra params, a form
LARGEST_EVENT = 64 << 20  # Label Studio tells of up to 5,000 tasks in one event, each with all its data
LARGEST_BODY = 256 << 20  # it sends the tasks of one "Retrieve predictions" in one request
LONGEST_REASON = 1_000  # characters; a reason phrase must fit on the status line, and name all strategies


class ProjectReference(BaseModel):
    """`ID.unix_created`, as Label Studio names a project to its backends."""

    id: int = Field(ge=0, le=LARGEST_ID)
    created: int = Field(0, ge=0, lt=2**63)

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

    model_config = ConfigDict(extra="ignore")
    id: int = Field(ge=0, le=LARGEST_ID)


class WebhookRequest(BaseModel):
    """Body of /webhook, as far as it tells what to do."""

    model_config = ConfigDict(extra="ignore")
    action: str
    project: WebhookProject


def register(app: Flask) -> None:
    """Add the routes, the answers to errors, and the measuring of every request."""
    app.before_request(_begin)
    app.after_request(_measure)
    app.register_blueprint(routes)
    app.register_error_handler(Refused, lambda error: _error(error, error.status, str(error)))
    app.register_error_handler(UnsupportedConfig, lambda error: _error(error, 400, str(error)))
    app.register_error_handler(InvalidSettings, lambda error: _error(error, 400, str(error)))
    app.register_error_handler(SQLAlchemyError, _database)
    app.register_error_handler(LabelStudioError, lambda error: _error(error, 502, str(error)))
    app.register_error_handler(StorageUnavailable, lambda error: _error(error, 503, str(error)))
    app.register_error_handler(ValidationError, lambda error: _error(error, 400, _first_problem(error)))
    app.register_error_handler(
        HTTPException, lambda error: _error(error, error.code or 500, error.description or "")
    )
    app.register_error_handler(Exception, _unexpected)


@routes.before_request
def _refuse_other_sites() -> None:
    """A page elsewhere must not have the browser of somebody who is logged in to the dashboard call these."""
    if request.method != "GET":
        require_same_origin()


@routes.get("/health")
def health() -> Response:
    """Tell that we are here."""
    return jsonify({"status": "UP", "model_class": "ActiveLearning"})


@routes.post("/setup")
def setup() -> Response:
    """Label Studio connects the backend, or polls it."""
    require_basic_auth()
    body = SetupRequest.model_validate(_json())
    logs.begin_request(project=body.project.id)
    jobs = jobs_of_app()
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
    try:
        version, has_work = setup_called(
            jobs.deployment, project.id, project.created, body.label_config, body.extra_params, backend_url
        )
    except PerhapsAnother:
        jobs.reconcile_soon()
        return NO_MODEL_VERSION
    if has_work:
        jobs.nudge(project.id)
    return version


@routes.post("/predict")
def predict() -> Response:
    """Exactly one prediction for each task."""
    require_basic_auth()
    body = PredictRequest.model_validate(_json())
    logs.begin_request(project=body.project.id)
    tasks = [{"id": task.id, "data": task.data} for task in body.tasks]
    results = answer(jobs_of_app().deployment, body.project.id, body.label_config, tasks)
    filled = sum(bool(prediction["result"]) for prediction in results)
    PREDICTIONS.labels("filled").inc(filled)
    PREDICTIONS.labels("empty").inc(len(results) - filled)
    return jsonify({"results": results})


@routes.post("/webhook")
def webhook() -> tuple[Response, int]:
    """Commit an event, then answer; the work is done elsewhere."""
    payload = _json()
    body = WebhookRequest.model_validate(payload)
    logs.begin_request(project=body.project.id)
    jobs = jobs_of_app()
    action = body.action if body.action in events.KNOWN_ACTIONS else "other"
    try:
        outcome = jobs.take_event(body.action, body.project.id, payload, _secret_to_check(body.action))
    except Refused:
        EVENTS.labels(action, events.Outcome.REFUSED).inc()
        raise
    EVENTS.labels(action, outcome).inc()
    if outcome == events.Outcome.REFUSED:
        raise Refused("The webhook lacks the secret of its project: run `active-learning connect`", 401)
    return jsonify({"status": outcome}), 200


@routes.get("/versions")
def versions() -> Response:
    """The model versions that are served; Label Studio does not say for which project it asks."""
    require_basic_auth()
    with jobs_of_app().deployment.database.read() as session:
        served = select(Round.version).join(Project, Project.published_round == Round.id)
        return jsonify(
            {"versions": list(session.scalars(served.where(Project.state == ProjectState.ACTIVE)))}
        )


@routes.get("/is_training")
def is_training() -> Response:
    """Whether a round is under way in any project."""
    require_basic_auth()
    with jobs_of_app().deployment.database.read() as session:
        running = session.scalar(select(Round.id).where(Round.state == RoundState.RUNNING).limit(1))
    return jsonify({"is_training": running is not None})


@routes.get("/metrics")
def metrics() -> Response:
    """What Prometheus scrapes. Label Studio does not ask for it."""
    require_viewer()
    text, content_type = exposition(jobs_of_app().deployment.database, request.headers.get("Accept", ""))
    return Response(text, content_type=content_type)


def _begin() -> None:
    logs.begin_request()
    g.began = time.monotonic()
    request.max_content_length = _largest_body()


def _largest_body() -> int:
    """Bytes that this request may send; a large body is read only of who may send one."""
    length = request.content_length or 0
    if length > SMALL_BODY:
        if request.endpoint == "protocol.predict" and may_change():
            return LARGEST_BODY
        if request.endpoint == "protocol.webhook" and _may_tell():
            return LARGEST_EVENT
    return SMALL_BODY


def _may_tell() -> bool:
    """Whether the request carries what some project's webhook does."""
    given = request.headers.get(events.SECRET_HEADER)
    return has_basic_auth() or events.is_secret(jobs_of_app().deployment.database, given)


def _measure(response: Response) -> Response:
    route = request.url_rule.rule if request.url_rule else "none"
    REQUESTS.labels(route, f"{response.status_code // 100}xx").observe(time.monotonic() - g.began)
    return response


def _secret_to_check(action: str) -> str | None:
    """What an event carries as the secret of its project; None where it comes with user and password instead.

    Raises Refused where it needs those, and has not.
    """
    if action == events.START_TRAINING:
        require_basic_auth()  # it comes over the backend's connection, without the webhook's secret
        return None
    return None if has_basic_auth() else request.headers.get(events.SECRET_HEADER, "")


def _json() -> Mapping[str, Any]:
    try:
        body = request.get_json(force=True, silent=True)
    except RecursionError:
        raise Refused("The request's body is nested too deeply") from None
    if not isinstance(body, dict):
        raise Refused("The request's body is not a JSON object")
    return body


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"])) or "body"
    return f"Field {field}: {first['msg'].removeprefix('Value error, ')}"


def _error(error: Exception, status: int, message: str) -> Response:
    """An error whose sentence stands in the reason phrase, for Label Studio, and in the body, for others."""
    ERRORS.labels(type(error).__name__).inc()
    response = jsonify({"error": message})
    ascii_message = message.replace("→", ">").replace("…", "...").encode("ascii", "replace").decode()
    phrase = " ".join(ascii_message.split())[:LONGEST_REASON]
    response.status = f"{status} {phrase}"
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="active learning"'
    return response


def _database(error: SQLAlchemyError) -> Response:
    """A database that is away for a moment is no fault of ours, and no reason for a traceback."""
    if not is_outage(error):
        return _unexpected(error)
    log.warning("%s cannot be answered, for the database cannot be used: %s", request.path, error)
    return _error(error, 503, AWAY)


def _unexpected(error: Exception) -> Response:
    """What we did not foresee: the log gets all of it, the caller a reference to it."""
    reference = secrets.token_hex(4)
    log.error("unexpected error %s in %s", reference, request.path, exc_info=error)
    return _error(error, 500, f"Unexpected error {reference}: the backend's log tells what happened")
