"""gunicorn's worker with threads, for clients that send slowly or never read.

A thread reads a request and then answers it. Without this, a few connections on which a byte drips now and then, or
whose answers nobody takes, hold all threads for as long as they like, and Label Studio is not answered.
"""

import errno
import gc
import math
import socket
import time
from contextlib import suppress
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

THREADS = 64  # of each process; a slow client has one of them, for a while
FIRST_SECONDS = 10.0  # in which the head of a request must come
SLOWEST = 100_000  # bytes a second, of what comes beyond that, and of what is sent
LINGER = 2.0  # seconds for the client to close a connection that we are done with


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
        """Called by gunicorn in a thread, for one request; returns whether the connection is kept."""
        conn.sock.hurry()
        kept = super().handle(conn)
        if not kept:
            conn.sock.end()
        return kept


class Hurried(socket.socket):
    """A connection from which a request must be read by a moment that every byte puts off a little.

    What is sent must be taken as quickly.
    """

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

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Raises ConnectionResetError where the client does not take it in time."""
        self.settimeout(FIRST_SECONDS + len(data) / SLOWEST)
        try:
            super().sendall(data, flags)
        except TimeoutError:
            raise ConnectionResetError(errno.ECONNRESET, "the client reads too slowly") from None
        finally:
            self.settimeout(None)

    def end(self) -> None:
        """Tell the client that nothing more comes, and wait a little until it closes, reading what it still sends.

        To close before that could cut off the answer. gunicorn waits in the one thread that accepts all connections;
        after this, it has nothing to wait for.
        """
        self._until = time.monotonic() + LINGER
        with suppress(OSError):
            self.shutdown(socket.SHUT_WR)
            for _ in range(16):  # pieces, of what has been sent already
                if not self.recv(4096):
                    break
        self._until = time.monotonic()
