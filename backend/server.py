"""The server's processes: one that loads the program, and those that it forks, which answer."""

import os
import shutil
import socket
from typing import Any

from gunicorn.app.base import BaseApplication

from backend.gunicorn_worker import THREADS
from backend.settings import Settings

PROCESSES = 2
TIMEOUT = 300  # seconds until a process that does nothing any more is replaced
COUNTERS = "PROMETHEUS_MULTIPROC_DIR"  # read by Prometheus' library when it is imported


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

        return create_app(self._settings)

    def run(self) -> None:
        """Serve until the end."""
        _share_counters(self._settings)
        super().run()


def _load_program(_arbiter: object) -> None:
    import backend.app  # noqa: F401


def _share_counters(settings: Settings) -> None:
    """Have the processes add up what they count, in files, from zero at each start.

    The folder is emptied, of the files of processes that are dead as well.
    """
    folder = settings.model_dir.absolute() / "metrics" / f"{socket.gethostname()}-{settings.port}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ[COUNTERS] = str(folder)
