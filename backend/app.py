"""The Flask application."""

from contextlib import suppress

from flask import Flask

from backend import dashboard, protocol
from backend.deployment import Deployment
from backend.labelstudio.client import LabelStudioError
from backend.loop.jobs import Jobs
from backend.settings import Settings

LARGEST_BODY = 256 << 20  # bytes; Label Studio sends the tasks of one "Retrieve predictions" in one request


def create_app(settings: Settings | None = None) -> Flask:
    """Make the application; gunicorn calls this without arguments, in each of its processes."""
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    deployment = Deployment(settings or Settings())
    deployment.prepare()
    with suppress(LabelStudioError):  # /setup tells of a bad key
        _ = deployment.label_studio  # its library takes seconds to load, and /setup has but three
    app.extensions["jobs"] = Jobs(deployment)
    protocol.register(app)
    dashboard.register(app)
    return app
