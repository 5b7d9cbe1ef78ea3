"""Who may do what: what a request must carry before it is served."""

import hmac
from urllib.parse import urlsplit

from flask import current_app, request

from backend.loop.jobs import Jobs


class Refused(Exception):
    """A request that cannot be served; the message is for the person who made it."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def jobs_of_app() -> Jobs:
    """The jobs, and with them the deployment, of the application that serves the request."""
    jobs: Jobs = current_app.extensions["jobs"]
    return jobs


def require_basic_auth() -> None:
    """Raises Refused for a request without the configured user and password; where none are set, all may pass."""
    if not may_change():
        raise Refused(
            "Wrong user or password: in Label Studio, edit the model and enter BASIC_AUTH_USER and "
            "BASIC_AUTH_PASS of the backend",
            401,
        )


def require_viewer() -> None:
    """Raises Refused for a request of neither the configured user nor the viewer."""
    if not may_change() and not _carries(jobs_of_app().deployment.settings.viewer_auth):
        raise Refused("Wrong user or password: enter BASIC_AUTH_USER or VIEWER_USER of the backend", 401)


def may_change() -> bool:
    """Whether the request may do everything; where no user and password are set, all may."""
    return jobs_of_app().deployment.settings.basic_auth is None or has_basic_auth()


def has_basic_auth() -> bool:
    """Whether the request carries the configured user and password."""
    return _carries(jobs_of_app().deployment.settings.basic_auth)


def _carries(expected: tuple[str, str] | None) -> bool:
    """Whether the request has that user and password; compared in constant time."""
    try:
        given = request.authorization
    except ValueError:  # the library does not expect other characters than base64's
        return False
    if expected is None or given is None or given.type != "basic":
        return False
    user = hmac.compare_digest((given.username or "").encode(), expected[0].encode())
    password = hmac.compare_digest((given.password or "").encode(), expected[1].encode())
    return user and password


def require_same_origin() -> None:
    """Raises Refused for a request to change something that another site had the browser make.

    A browser tells in Sec-Fetch-Site where a request comes from, or at least in Origin, and no page can make it say
    otherwise (W3C, Fetch Metadata Request Headers). What tells neither is no browser: it has no password but its own.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site in ("same-origin", "none"):  # none: a person's own doing, as a bookmark
        return
    if site is None and (origin is None or urlsplit(origin).netloc == request.host):
        return
    raise Refused(
        "This was asked for by another site, so nothing was done. Press the button on this page.", 403
    )
