"""A real Label Studio on this machine, for the demo and the tests.

It listens on 127.0.0.1 only, calls nobody outside, and keeps everything (SQLite database, uploads, log,
credentials) in one directory.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

EMAIL = "demo@example.com"
START_TIMEOUT = 300.0
"""Seconds. A first start runs 261 database migrations: half a minute, several on a busy machine."""
FIRST_PORT, PORTS = 10_000, 20_000
STOP_TIMEOUT = 10.0
"""Seconds between asking the process to end and killing it."""


class LabelStudioStartError(Exception):
    """Label Studio did not start, or a user could not be made; the message says why and what to do."""


class LabelStudioServer:
    """Label Studio in a process of its own. Also a context manager: started on entry, stopped on exit.

    A second server on the same directory resumes: same projects, same login, same key.

    Args:
        directory: holds the database, uploads, `label-studio.log` and `credentials.json`; created if absent.
        port: where to listen; a free one by default. It stays the same over restarts.
        local_files: a folder whose files may be served as `/data/local-files/?d=…` (a project also needs a
            local storage that covers them).
        settings: further environment variables for Label Studio; they win over those set here.
    """

    def __init__(
        self,
        directory: Path,
        port: int | None = None,
        *,
        local_files: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory.resolve()
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.email = EMAIL
        self.password = ""
        self.api_key = ""
        """Personal access token of the first user."""
        self.log = self.directory / "label-studio.log"
        self._local_files = local_files
        self._settings = settings or {}
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"LabelStudioServer({self.url})"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start, wait until `/health` answers, and on the first start get an API key.

        Raises:
            LabelStudioStartError: not installed, port occupied, or the process ended or hung (with the end of
                its log).
        """
        executable = Path(sys.executable).parent / "label-studio"
        if not executable.exists():
            raise LabelStudioStartError(
                f"Label Studio is not installed beside {sys.executable}. Install it with "
                "`pip install label-studio`, or set LABEL_STUDIO_URL to one that runs elsewhere."
            )
        if _occupied(self.port):
            raise LabelStudioStartError(
                f"Port {self.port} is already in use. Stop what listens there, or choose another port."
            )
        self.directory.mkdir(parents=True, exist_ok=True)
        self._load_credentials()
        command = [str(executable), "start", "--no-browser", "--internal-host", "127.0.0.1"]
        # Without --debug it moves to the next free port when this one was taken meanwhile; with it, it ends.
        command += ["--port", str(self.port), "--debug"]
        with self.log.open("ab") as log:
            log_start = log.tell()
            self._process = subprocess.Popen(
                command,
                env=self._environment(),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # its own process group: Ctrl-C reaches us alone, we end all of it
            )
        try:
            self._wait_until_healthy(self._process, log_start)
            if not self.api_key:
                with httpx.Client(base_url=self.url, trust_env=False, timeout=30) as client:
                    self.api_key = _personal_access_token(client, "/user/login/", self.email, self.password)
                self._store_credentials()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End the server and all its processes; does nothing when it is not running."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would, with SIGKILL."""
        self._end(signal.SIGKILL)

    def send_signal(self, signal_number: int) -> None:
        """Send a signal to the server and its processes, if it runs."""
        if self._process is not None:
            os.killpg(self._process.pid, signal_number)

    def restart(self) -> None:
        """Stop and start again, on the same port and data."""
        self.stop()
        self.start()

    def add_user(self, email: str, password: str) -> str:
        """Sign a further annotator up to the same organization, through its invite link.

        Returns:
            The new user's personal access token.

        Raises:
            LabelStudioStartError: the email is taken or the password too simple.
        """
        with httpx.Client(base_url=self.url, trust_env=False, timeout=30) as client:
            access = (
                client.post("/api/token/refresh/", json={"refresh": self.api_key}).raise_for_status().json()
            )
            headers = {"Authorization": f"Bearer {access['access']}"}
            invite = client.get("/api/invite", headers=headers).raise_for_status().json()["invite_url"]
            return _personal_access_token(client, invite, email, password)

    def _environment(self) -> dict[str, str]:
        # The backend's own LABEL_STUDIO_* variables must not configure this server. Bytecode is cached in any
        # case: compiling its thousands of modules anew would take 8 of 13 seconds at each start.
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LABEL_STUDIO_", "HEARTEX_")) and name != "PYTHONDONTWRITEBYTECODE"
        }
        ours = {
            "BASE_DATA_DIR": str(self.directory),
            "DATABASE_NAME": str(self.directory / "label_studio.sqlite3"),
            "DJANGO_DB": "sqlite",
            "HOST": "",  # some shells export HOST, which would become the prefix of every link
            "USERNAME": self.email,
            "PASSWORD": self.password,
            "DISABLE_SIGNUP_WITHOUT_LINK": "true",
            "LOG_LEVEL": "WARNING",
            "DEBUG": "false",
            # Let it call an ML backend and a webhook on this machine.
            "ML_BLOCK_LOCAL_IP": "false",
            "SSRF_PROTECTION_ENABLED": "false",
            # No telemetry, no update check.
            "COLLECT_ANALYTICS": "false",
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
            "LATEST_VERSION_CHECK": "false",
        }
        if self._local_files:
            ours["LOCAL_FILES_SERVING_ENABLED"] = "true"
            ours["LOCAL_FILES_DOCUMENT_ROOT"] = str(self._local_files.resolve())
        return (
            inherited | {f"LABEL_STUDIO_{name}": value for name, value in ours.items()} | dict(self._settings)
        )

    def _wait_until_healthy(self, process: subprocess.Popen[bytes], log_start: int) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        with httpx.Client(trust_env=False, timeout=5) as client:
            while time.monotonic() < deadline:
                if process.poll() is not None:
                    raise LabelStudioStartError(
                        f"Label Studio ended with exit status {process.returncode} instead of starting. "
                        f"The end of {self.log}:\n{self._log_tail(log_start)}"
                    )
                try:
                    if client.get(f"{self.url}/health").is_success:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(0.1)
        raise LabelStudioStartError(
            f"Label Studio did not answer at {self.url}/health within {START_TIMEOUT:.0f} seconds. "
            f"The end of {self.log}:\n{self._log_tail(log_start)}"
        )

    def _log_tail(self, log_start: int, lines: int = 20) -> str:
        text = self.log.read_bytes()[log_start:].decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:]) or "(empty)"

    def _load_credentials(self) -> None:
        path = self.directory / "credentials.json"
        if path.exists():
            stored = json.loads(path.read_text())
            self.password, self.api_key = stored["password"], stored["api_key"]
        else:  # stored before the first start, so that one cut short can be resumed
            self.password = secrets.token_urlsafe(12)
            self._store_credentials()

    def _store_credentials(self) -> None:
        credentials = {"email": self.email, "password": self.password, "api_key": self.api_key}
        path = self.directory / "credentials.json"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(credentials, file)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            os.killpg(process.pid, how)
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        except ProcessLookupError:  # it had ended by itself
            process.wait()


def _personal_access_token(client: httpx.Client, form: str, email: str, password: str) -> str:
    """Log in through the form at this path (login or sign-up) and create a personal access token."""
    page = str(client.get(form).raise_for_status().url)

    def headers() -> dict[str, str]:
        return {"Referer": page, "X-CSRFToken": client.cookies["csrftoken"]}

    answer = client.post(form, data={"email": email, "password": password}, headers=headers())
    if not answer.is_redirect:  # the form again, with its complaint
        raise LabelStudioStartError(
            f"Label Studio refused {email} at {form.partition('?')[0]} (HTTP {answer.status_code}): a wrong "
            "password or, for a new user, an email that is taken or a password too short or too common."
        )
    created = client.post("/api/token/", headers=headers())
    if created.status_code == httpx.codes.CONFLICT:  # it keeps one per user and shows it once
        raise LabelStudioStartError(
            f"{email} has an API key already, which Label Studio does not show again. Revoke it under "
            "Account & Settings → Personal Access Token, or delete Label Studio's directory to begin anew."
        )
    created.raise_for_status()
    return str(created.json()["token"])


def free_port() -> int:
    """A port that nobody listens on, below those that systems give to outgoing connections: it stays free a while."""
    while True:
        port = FIRST_PORT + secrets.randbelow(PORTS)
        if not _occupied(port):
            return port


def _occupied(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError:
            return True
    return False
