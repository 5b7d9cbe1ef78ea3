"""Clients that send a byte now and then, stay on, or never read hold nobody up for long."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
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


def connected(stack: ExitStack, url: httpx.URL, request: bytes) -> socket.socket:
    """A connection on which a request was sent, open until the stack ends."""
    connection = stack.enter_context(socket.create_connection((url.host, url.port)))
    connection.sendall(request)
    return connection


def test_clients_that_stay_after_the_last_answer_hold_nobody_up(server: BackendProcesses) -> None:
    url = httpx.URL(server.url)
    with ExitStack() as stack:
        staying = [connected(stack, url, b"GET /health HTTP/1.0\r\n\r\n") for _ in range(40)]
        for connection in staying:
            assert connection.recv(4096).startswith(b"HTTP/1.0 200")
        began = time.monotonic()
        for _ in range(10):
            assert httpx.get(f"{url}/health", timeout=PATIENCE, trust_env=False).is_success
        assert time.monotonic() - began < 5  # 40 times 2 s, where the thread that accepts connections waits


def test_clients_that_never_read_are_given_up(server: BackendProcesses) -> None:
    """The answers to what they ask fill all buffers, and then a thread waits that sends."""
    url = httpx.URL(server.url)
    asked = b"GET /static/dashboard/vendor/regl-scatterplot.esm.js HTTP/1.1\r\nHost: x\r\n\r\n"  # 0.3 MB
    with ExitStack() as stack:
        for _ in range(PROCESSES * THREADS + 20):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect((url.host, url.port))
            connection.setblocking(False)
            connection.send(40 * asked)
        wait_for("all threads to be held", lambda: not answers(url, 1))
        assert answers(url, PATIENCE)


def answers(url: httpx.URL, seconds: float) -> bool:
    """Whether the server does, in so long."""
    try:
        return httpx.get(f"{url}/health", timeout=seconds, trust_env=False).is_success
    except httpx.TimeoutException:
        return False
