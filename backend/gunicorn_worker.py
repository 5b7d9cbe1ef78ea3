"""gunicorn's worker with threads, for clients that send slowly.

A thread reads a request and then answers it. Without this, a few connections on which a byte drips now and then take
all threads for as long as they like, and Label Studio is not answered.
"""

import errno
import gc
import math
import socket
import time
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

THREADS = 64  # of each process; a slow client has one of them, for a while
FIRST_SECONDS = 10.0  # in which the head of a request must come
SLOWEST = 100_000  # bytes a second, of what comes beyond that


class Worker(ThreadWorker):  # type: ignore[misc]
    """Gives up a connection that does not send its request in time."""

    def run(self) -> None:
        """Called by gunicorn once the application is loaded, to serve until the end.

        What is loaded by now stays; to look through it for garbage would stop all answers for 0.2 seconds each time.
        """
        gc.collect()
        gc.freeze()
        super().run()

    def enqueue_req(self, conn: TConn) -> None:
        """Called by gunicorn for each connection that it accepts, and for each further request on it."""
        if not isinstance(conn.sock, Hurried):
            conn.sock = Hurried(fileno=conn.sock.detach())
        super().enqueue_req(conn)

    def handle(self, conn: TConn) -> Any:
        """Called by gunicorn in a thread, for one request."""
        conn.sock.hurry()
        return super().handle(conn)


class Hurried(socket.socket):
    """A connection from which a request must be read by a moment that every byte puts off a little."""

    _until = math.inf

    def hurry(self) -> None:
        """A request begins."""
        self._until = time.monotonic() + FIRST_SECONDS

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Raises ConnectionResetError where the client took too long: as if it had gone away."""
        left = self._until - time.monotonic()
        try:
            self.settimeout(max(left, 0.001))
            received = super().recv(size, flags)
        except TimeoutError:
            raise ConnectionResetError(errno.ECONNRESET, "the client sends too slowly") from None
        finally:
            self.settimeout(None)
        self._until += len(received) / SLOWEST
        return received
