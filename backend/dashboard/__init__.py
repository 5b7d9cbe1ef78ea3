"""The pages at the backend's root URL, for whoever wants to know what the loop does, and to steer it.

Pages are rendered here and need no Label Studio to be up; what Label Studio alone can tell is fetched by the page
afterwards. Nothing is loaded from other hosts.
"""

from flask import Flask

import backend.dashboard.actions
import backend.dashboard.errors
import backend.dashboard.map
import backend.dashboard.pages
import backend.dashboard.thumbnails  # noqa: F401  (their routes)
from backend.dashboard.blueprint import dashboard


def register(app: Flask) -> None:
    """Add the pages."""
    app.jinja_env.autoescape = True  # Flask decides by the name, and ours end otherwise than it expects
    app.register_blueprint(dashboard)
