"""The Flask application."""

from contextlib import suppress

from flask import Flask
from werkzeug.routing import IntegerConverter, Map

from backend import dashboard, protocol
from backend.deployment import Deployment
from backend.labelstudio.client import LabelStudioError
from backend.loop.jobs import Jobs
from backend.settings import Settings
from backend.store.tables import LARGEST_ID


class IdConverter(IntegerConverter):
    """The numbers in addresses; one that no row can have leads nowhere."""

    def __init__(self, map: Map) -> None:
        super().__init__(map, max=LARGEST_ID)


def create_app(settings: Settings | None = None) -> Flask:
    """Make the application, in each process that serves it. settings: those of the environment, if not given."""
    app = Flask(__name__)
    app.url_map.converters["int"] = IdConverter
    deployment = Deployment(settings or Settings())
    deployment.prepare()
    with suppress(LabelStudioError):  # /setup tells of a bad key
        _ = deployment.label_studio  # made here, since threads that need it at once would make several
    app.extensions["jobs"] = Jobs(deployment)
    app.extensions[
        "jobs"
    ].reconcile_soon()  # this process may replace one that died in the middle of an answer
    protocol.register(app)
    dashboard.register(app)
    return app
