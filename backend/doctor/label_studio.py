"""What concerns Label Studio as a whole: the way to it, the key, its version, its clock, the way back from it."""

import re
from collections.abc import Iterator
from datetime import UTC
from email.utils import parsedate_to_datetime
from importlib.metadata import requires

import httpx

from backend.deployment import Deployment
from backend.doctor.check import Check, Finding, broken, fine, told, warning
from backend.labelstudio.connection import (
    KEY_REMEDY,
    AccessDenied,
    Connection,
    LabelStudioError,
    server_url,
)
from backend.loop.registration import without_password
from backend.store.tables import now

AREA = "Label Studio"
PACKAGE = "label-studio-active-learning"
ODD_SKEW, BAD_SKEW = 30, 240  # seconds; an access token lives for 300
HERE = ("localhost", "127.0.0.1", "::1")


class LabelStudioChecks:
    """Whether it can be worked with. `usable`: it answers and accepts the key, once that was looked at."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.usable = False
        self._answer: httpx.Response | None = None

    def checks(self) -> Iterator[Check]:
        """In the order in which they are worth reading; the later ones where the first ones found it there."""
        yield Check(AREA, "address", self.address)
        if self._answer is not None:
            yield Check(AREA, "version", self.version)
            yield Check(AREA, "clock", self.clock)
            yield Check(AREA, "API key", self.key)
        if self.usable:
            yield Check(AREA, "way back", self.way_back)

    def address(self) -> Finding:
        """Whether a Label Studio answers at LABEL_STUDIO_URL."""
        try:
            self._answer = self._get("api/version")
        except LabelStudioError as error:
            return told(error)
        return fine(f"It answers at {self.deployment.settings.label_studio_url}.")

    def version(self) -> Finding:
        """Whether it is the version that this one was tested with."""
        told_version = self._asked.json().get("release")
        if told_version is None:
            return warning("It does not tell its version.", f"This was tested with {tested_version()}.")
        if told_version != tested_version():
            return warning(
                f"Its version is {told_version}; this was tested with {tested_version()}.",
                "If something is odd, try that one. Others mostly work, too.",
            )
        return fine(f"Its version is {told_version}, which this was tested with.")

    def clock(self) -> Finding:
        """Whether its clock and ours agree: access tokens are valid for minutes."""
        date = self._asked.headers.get("Date")
        if date is None:
            return fine("It does not tell the time.")
        skew = (now() - parsedate_to_datetime(date).replace(tzinfo=UTC)).total_seconds()
        lead = f"This machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} Label Studio's."
        remedy = "Synchronise both clocks (NTP)."
        if abs(skew) >= BAD_SKEW:
            return broken(f"{lead} Access tokens live for 300 s, so they may be refused.", remedy)
        if abs(skew) >= ODD_SKEW:
            return warning(lead, remedy)
        return fine("Its clock and this machine's agree.")

    def key(self) -> Finding:
        """Whether it accepts the key, and whose it is."""
        try:
            authorization = self.deployment.label_studio.authorization()
            user = self._get("api/current-user/whoami", authorization).json()
        except AccessDenied as error:
            text = str(error)
            if "legacy" in text:
                return broken(
                    "The key is a legacy token, and the organization does not allow those (any more).",
                    KEY_REMEDY,
                )
            if KEY_REMEDY in text:
                return broken(text.replace(KEY_REMEDY, "").strip(), KEY_REMEDY)
            return told(error)
        except LabelStudioError as error:
            return told(error)
        self.usable = True
        return fine(f"It is accepted, as {user.get('email', 'a user without email')}'s.")

    def way_back(self) -> Finding:
        """Whether it calls a backend at BACKEND_URL, which it refuses for private addresses unless it is told to."""
        settings = self.deployment.settings
        if _host(settings.backend_url) in HERE and _host(settings.label_studio_url) not in HERE:
            return broken(
                "BACKEND_URL is this machine's own name for itself, but Label Studio runs on another machine.",
                "Set BACKEND_URL to the name or address that this machine has there.",
            )
        try:
            self.deployment.label_studio.check_address(settings.backend_url)
        except LabelStudioError as error:
            return told(error)
        return fine(f"It does not refuse to call {without_password(settings.backend_url)}.")

    @property
    def _asked(self) -> httpx.Response:
        assert self._answer is not None
        return self._answer

    def _get(self, path: str, authorization: str = "") -> httpx.Response:
        url = server_url(self.deployment.settings.label_studio_url)
        headers = {"Authorization": authorization} if authorization else {}
        with Connection(url, self.deployment.patience) as connection:
            return connection.get(f"{url}/{path}", headers=headers)


def tested_version() -> str:
    """The version of Label Studio that our demo and tests run, as this package's metadata pins it."""
    pins = [re.match(r"label-studio==([\w.]+)", requirement) for requirement in requires(PACKAGE) or ()]
    return next(pin[1] for pin in pins if pin)


def _host(url: str) -> str:
    return httpx.URL(url).host
