"""The server's processes: one that loads the program, and those that it forks, which answer."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication

from backend.gunicorn_worker import THREADS
from backend.settings import Settings

PROCESSES = 2
TIMEOUT = 300  # seconds until a process that does nothing any more is replaced
COUNTERS = "PROMETHEUS_MULTIPROC_DIR"  # read by Prometheus' library when it is imported
MEMORY = Path("/dev/shm")  # noqa: S108 (what is made there has a name that nobody knows before)


class Server(BaseApplication):  # type: ignore[misc]
    """gunicorn, which listens first and then loads the program: who calls meanwhile waits, and is answered.

    The program is loaded once, and shared by all processes, also by one that replaces one that has died. What is loaded
    before they are forked must start no thread and open no connection.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        """Called by gunicorn, for its own settings."""
        settings: dict[str, Any] = {
            "bind": f"{self._settings.host}:{self._settings.port}",
            "workers": PROCESSES,
            "worker_class": "backend.gunicorn_worker.Worker",
            "threads": THREADS,
            "timeout": TIMEOUT,
            "sendfile": False,  # it would wait for a client that does not read
            "control_socket_disable": True,
            "when_ready": _load_program,
        }
        if self._settings.log_format == "json":
            settings["logger_class"] = "backend.gunicorn_log.JsonLogger"
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Called by gunicorn in each process that it forks, for the application."""
        from backend.app import create_app

        app = create_app(self._settings)
        app.extensions["jobs"].deployment.database.connect_ahead()
        return app

    def run(self) -> None:
        """Serve until the end."""
        with _shared_counters(self._settings):
            super().run()


def _load_program(_arbiter: object) -> None:
    import backend.app  # noqa: F401


@contextmanager
def _shared_counters(settings: Settings) -> Iterator[None]:
    """Have the processes add up what they count, in files, from zero at each start.

    In memory where that can be had: on a full disk, a process that counts would be killed.
    """
    parent = MEMORY if os.access(MEMORY, os.W_OK) else None
    folder = tempfile.mkdtemp(prefix=f"active-learning-{settings.port}-", dir=parent)
    os.environ[COUNTERS] = folder
    process = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == process:  # those that it has forked end here, too
            shutil.rmtree(folder, ignore_errors=True)
