"""The server's application: three requests reach a model, the events of annotations and Start training among them."""

import os
from typing import Any

from flask import Flask, Response, request

from label_studio_ml.model import LabelStudioMLBase

# ANNOTATION_DELETED, which Label Studio never sends: it sends ANNOTATIONS_DELETED.
EVENTS = {"ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATION_DELETED", "START_TRAINING"}
BASIC_AUTH: tuple[str, str] | None = None


def init_app(model: type[LabelStudioMLBase]) -> Flask:
    """The application that serves a model, asking for user and password if the environment has them."""
    global BASIC_AUTH
    user, password = os.environ.get("BASIC_AUTH_USER"), os.environ.get("BASIC_AUTH_PASS")
    BASIC_AUTH = (user, password) if user and password else None
    app = Flask(__name__)

    @app.before_request
    def refuse_strangers() -> Response | None:
        given = request.authorization
        if BASIC_AUTH is None or (given and (given.username, given.password) == BASIC_AUTH):
            return None
        return Response("Unauthorized", 401)

    @app.get("/health")
    def health() -> dict[str, Any]:
        return {"status": "UP", "model_class": model.__name__}

    @app.post("/setup")
    def setup() -> dict[str, Any]:
        body = request.get_json()
        made = model(body["project"].split(".")[0], body.get("schema"))
        if body.get("extra_params"):
            made.set_extra_params(body["extra_params"])
        return {"model_version": made.get("model_version")}

    @app.post("/predict")
    def predict() -> dict[str, Any]:
        body = request.get_json()
        parameters = body.get("params", {})
        context = parameters.pop("context", {})
        made = model(str(body["project"]).split(".")[0], body.get("label_config"))
        return {"results": made.predict(body["tasks"], context=context, **parameters)}

    @app.post("/webhook")
    def webhook() -> tuple[dict[str, Any], int]:
        body = request.get_json()
        event = body.pop("action")
        if event not in EVENTS:
            return {"status": "Unknown event"}, 200
        made = model(str(body["project"]["id"]), body["project"]["label_config"])
        return {"result": made.fit(event, body), "status": "ok"}, 201

    return app
