"""Requests to Label Studio, with every way they fail turned into a sentence that names the remedy."""

import base64
import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

KEY_REMEDY = (
    "Create a personal access token in Label Studio (Account & Settings → Personal Access Token) and set it "
    "as LABEL_STUDIO_API_KEY."
)
CONNECT_TIMEOUT = 10.0
"""Seconds."""


class LabelStudioError(Exception):
    """Label Studio refused or answered oddly; the message says what happened and what to do."""


class LabelStudioUnavailable(LabelStudioError):
    """Down, too slow, failing (5xx) or overloaded (429). Try again later.

    Attributes:
        retry_after: seconds after which it asked to be tried again, where it did.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class AccessDenied(LabelStudioError):
    """The API key is wrong, expired, of a refused kind, or not allowed to do this."""


class ProjectNotFound(LabelStudioError):
    """The project (or backend, or webhook) does not exist, or the key's user may not see it."""


class AddressRefused(LabelStudioError):
    """Label Studio will not or cannot call an ML backend or webhook at this address."""


class RequestRefused(LabelStudioError):
    """Label Studio found the request's content invalid (400)."""


def server_url(url: str) -> str:
    """Check a server's URL; returns it without a slash at the end.

    Raises:
        LabelStudioError: it has no http(s) scheme or no host, or it holds a password.
    """
    try:
        parsed = httpx.URL(url.strip())
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.userinfo:
        raise LabelStudioError(
            "LABEL_STUDIO_URL must not hold a user name and password: give the API key in LABEL_STUDIO_API_KEY."
        )
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise LabelStudioError(
            f"{url!r} is not the URL of a Label Studio. Set LABEL_STUDIO_URL to one like http://localhost:8080."
        )
    return str(parsed).rstrip("/")


class Connection(httpx.Client):
    """An HTTP client that raises `LabelStudioError`s. Proxies are taken from the environment."""

    def __init__(self, url: str, timeout: float) -> None:
        # Redirects are not followed: the token renewal would send the key along.
        limits = httpx.Timeout(timeout, connect=min(timeout, CONNECT_TIMEOUT))
        super().__init__(timeout=limits, follow_redirects=False)
        self._url = url

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """As `httpx.Client.send`, but any answer other than a success with JSON (or nothing) is an error."""
        try:
            response = super().send(request, **options)
        except httpx.TimeoutException as error:
            raise LabelStudioUnavailable(
                f"Label Studio at {self._url} did not answer in time. It may be overloaded; try again later."
            ) from error
        except httpx.TransportError as error:
            raise LabelStudioUnavailable(
                f"Label Studio at {self._url} cannot be reached ({error}). Check that it runs, and "
                "LABEL_STUDIO_URL."
            ) from error
        if not response.is_success:
            raise _failure(self._url, request, response)
        if response.content and not _is_json(response):
            raise LabelStudioError(
                f"{self._url} answered with something other than Label Studio's API. Check LABEL_STUDIO_URL."
            )
        return response


def _failure(url: str, request: httpx.Request, response: httpx.Response) -> LabelStudioError:
    status, reason = response.status_code, _reason(response)
    if "reserved network address" in reason or "Can't resolve hostname" in reason:
        return AddressRefused(
            "Label Studio refuses to call a backend at this address: it is a private one, or its host name is "
            "unknown to Label Studio's machine. For a private address, start Label Studio with both "
            "LABEL_STUDIO_ML_BLOCK_LOCAL_IP=false and LABEL_STUDIO_SSRF_PROTECTION_ENABLED=false."
        )
    if response.is_redirect:
        target = response.headers["Location"].partition("?")[0]
        return LabelStudioError(
            f"{url} redirects to {target}. Set LABEL_STUDIO_URL to the address it is served from."
        )
    if status >= 500 or status in (408, 429):
        seconds = _retry_after(response)
        when = "Try again later." if seconds is None else f"It asks to be tried again in {seconds:.0f} s."
        return LabelStudioUnavailable(
            f"Label Studio at {url} failed (HTTP {status}{reason}). {when}", seconds
        )
    if status == 401 and _has_expired(request):
        return LabelStudioUnavailable(
            f"Label Studio at {url} took so long that the access token expired meanwhile. Try again later."
        )
    if status == 401:
        return AccessDenied(f"Label Studio at {url} does not accept the API key{reason}. {KEY_REMEDY}")
    if status == 403:
        return AccessDenied(
            f"Label Studio at {url} does not let this API key's user do that{reason}. Use the key of one who may."
        )
    if status == 404:
        return _not_found(url, request.url)
    return RequestRefused(f"Label Studio at {url} refused the request (HTTP {status}{reason}).")


def _has_expired(request: httpx.Request) -> bool:
    """Whether the access token is over by now: the SDK sends it until its last moment."""
    payload = request.headers.get("Authorization", "").partition(".")[2].partition(".")[0]
    try:
        return bool(json.loads(base64.urlsafe_b64decode(payload + "=="))["exp"] <= time.time())
    except (ValueError, TypeError, KeyError):
        return False


def _not_found(url: str, asked: httpx.URL) -> LabelStudioError:
    # The body does not help: for some of its addresses, Label Studio answers with a page.
    project = re.search(r"/projects/(\d+)", asked.path)
    number = project[1] if project else asked.params.get("project")
    if number is not None:
        return ProjectNotFound(
            f"Label Studio at {url} has no project {number}, or this API key's user may not see it. The number of a "
            "project is in its address in the browser: …/projects/NUMBER/."
        )
    if re.search(r"/\d+/?$", asked.path):
        return ProjectNotFound(f"Label Studio at {url} has no {asked.path} (any more).")
    return LabelStudioError(f"There is no Label Studio at {url} (HTTP 404). Check LABEL_STUDIO_URL.")


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds to wait, as the header Retry-After gives them, or the moment that it names; None without one."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _is_json(response: httpx.Response) -> bool:
    return "json" in response.headers.get("Content-Type", "")


def _reason(response: httpx.Response) -> str:
    """What the body says beside the status, as `: sentence`, or nothing. No password in it."""
    try:
        body = response.json()
    except ValueError:
        return ""
    if not isinstance(body, dict):
        return ""
    faults = body.get("validation_errors") or {}
    if isinstance(faults, dict):
        faults.pop("headers", None)  # what it says about headers repeats them, secrets included
    sentences = list(_sentences(faults)) or [str(body.get("detail", ""))]
    text = re.sub(r"<[^>]*>", "", " ".join(sentences))
    text = re.sub(r"//[^/@\s]*@", "//", text).strip().rstrip(".")
    return f": {text[:500]}" if text else ""


def _sentences(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _sentences(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _sentences(inner)
    else:
        yield str(value)
