"""What a person sees of an error on a page: what happened, and what to do."""

import logging
import secrets

from flask import render_template, request
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException

from backend.access import Refused
from backend.dashboard.blueprint import dashboard
from backend.labelstudio.client import LabelStudioError
from backend.labelstudio.labeling_config import UnsupportedConfig
from backend.loop.actions import NotPossible
from backend.settings import InvalidSettings
from backend.store.database import AWAY, is_outage
from backend.store.storage import StorageUnavailable

log = logging.getLogger(__name__)


@dashboard.errorhandler(Refused)
def _refused(error: Refused) -> tuple[str, int, dict[str, str]]:
    headers = {"WWW-Authenticate": 'Basic realm="active learning"'} if error.status == 401 else {}
    return _message(str(error)), error.status, headers


@dashboard.errorhandler(NotPossible)
@dashboard.errorhandler(InvalidSettings)
@dashboard.errorhandler(UnsupportedConfig)
def _not_done(error: Exception) -> tuple[str, int]:
    return _message(str(error)), 400


@dashboard.errorhandler(LabelStudioError)
def _label_studio(error: LabelStudioError) -> tuple[str, int]:
    return _message(f"{error} No label is lost."), 502


@dashboard.errorhandler(SQLAlchemyError)
def _database(error: SQLAlchemyError) -> tuple[str, int]:
    return (_message(AWAY), 503) if is_outage(error) else _unexpected(error)


@dashboard.errorhandler(StorageUnavailable)
def _storage(error: StorageUnavailable) -> tuple[str, int]:
    return _message(str(error)), 503


@dashboard.errorhandler(HTTPException)
def _http(error: HTTPException) -> tuple[str, int]:
    return _message(error.description or error.name), error.code or 500


@dashboard.errorhandler(Exception)
def _unexpected(error: Exception) -> tuple[str, int]:
    reference = secrets.token_hex(4)
    log.error("unexpected error %s in %s", reference, request.path, exc_info=error)
    return _message(
        f"Something went wrong here. No label is lost. The server's log tells more at {reference}."
    ), 500


def _message(text: str) -> str:
    """A page, or what stands beside the button where only a part of a page was asked for."""
    template = "message.html.jinja" if "HX-Request" in request.headers else "error.html.jinja"
    return render_template(template, message=text)
