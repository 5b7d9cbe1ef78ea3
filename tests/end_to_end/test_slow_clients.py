"""Clients that send a byte now and then hold no thread for long."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from backend.demo.backend import BackendProcesses
from backend.demo.label_studio import free_port
from backend.gunicorn_worker import THREADS
from tests.end_to_end.running_loop import PATIENCE, wait_for

PROCESSES = 2


@pytest.fixture
def server(tmp_path: Path) -> Iterator[BackendProcesses]:
    port = str(free_port())
    processes = BackendProcesses({"PORT": port, "MODEL_DIR": str(tmp_path), "LABEL_STUDIO_API_KEY": "a-key"})
    try:
        processes.start_process("serve")
        wait_for("the server", processes.answers)
        yield processes
    finally:
        processes.stop()


class Slow:
    """Sends the head of a request, a byte a second, for as long as the server listens."""

    def __init__(self, url: httpx.URL) -> None:
        self._connection = socket.create_connection((url.host, url.port))
        self._connection.sendall(b"GET /health HTTP/1.1\r\nX-Slow: ")
        self._ended = threading.Event()
        self.given_up = False
        self._thread = threading.Thread(target=self._drip, daemon=True)
        self._thread.start()

    def _drip(self) -> None:
        try:
            while not self._ended.wait(1):
                self._connection.sendall(b"x")
        except OSError:
            self.given_up = True

    def end(self) -> None:
        """Go away."""
        self._ended.set()
        self._thread.join()
        self._connection.close()


def test_others_are_answered_and_the_slow_are_given_up(server: BackendProcesses) -> None:
    url = httpx.URL(server.url)
    slow = [Slow(url) for _ in range(PROCESSES * THREADS + 20)]  # more than there are threads
    try:
        assert httpx.get(f"{url}/health", timeout=PATIENCE, trust_env=False).is_success
        wait_for("all slow clients to be given up", lambda: all(one.given_up for one in slow))
    finally:
        for one in slow:
            one.end()
