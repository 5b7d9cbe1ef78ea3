"""A reverse proxy before Label Studio that spoils the answers to chosen requests."""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType

import httpx

KEPT = ("authorization", "content-type", "accept", "cookie", "x-csrftoken", "range")


@dataclass(frozen=True)
class Fault:
    """What is to go wrong, once.

    Attributes:
        request: a regular expression for "METHOD /path?query".
        deed: a status ("500", "404"; "429 30", with its Retry-After) is answered in Label Studio's place. "lost": it
            does what it is asked, but its answer is a 502. "half": the connection breaks in the middle of its
            answer; "short": the answer ends too early, as if it were whole. "twice": it is asked twice, as by someone
            who gave up on it.
    """

    request: str
    deed: str


class UnreliableProxy:
    """The proxy, in threads of the test's process; transparent while there are no `faults`."""

    def __init__(self, target: str) -> None:
        self._client = httpx.Client(base_url=target, timeout=120, trust_env=False)
        self._lock = threading.Lock()
        self.faults: list[Fault] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Nothing: the test tells what matters."""

            def handle_request(self) -> None:
                proxy._handle(self)

            do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = handle_request  # noqa: N815

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Nothing: it is the client that was killed."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serve during the block."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            self._server.server_close()

    def _fault(self, request: str) -> str:
        with self._lock:
            for fault in self.faults:
                if re.search(fault.request, request):
                    self.faults.remove(fault)
                    return fault.deed
        return ""

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        deed = self._fault(f"{handler.command} {handler.path}")
        if deed[:1].isdigit():
            status, _, seconds = deed.partition(" ")
            self._answer(handler, int(status), b"{}", "application/json", {"Retry-After": seconds})
            return
        headers = {name: value for name, value in handler.headers.items() if name.lower() in KEPT}
        try:
            for _ in range(2 if deed == "twice" else 1):
                answer = self._client.request(handler.command, handler.path, content=body, headers=headers)
        except httpx.TransportError:
            handler.close_connection = True  # as if there were no proxy
            return
        content, kind = answer.content, answer.headers.get("Content-Type", "")
        if deed == "lost":
            self._answer(handler, 502, b"", kind)
        elif deed == "half":
            self._answer(handler, answer.status_code, content, kind, sent=len(content) // 2)
        else:
            content = content[: len(content) // 2] if deed == "short" else content
            more = {"Location": answer.headers.get("Location", "")}
            self._answer(handler, answer.status_code, content, kind, more)

    def _answer(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        content: bytes,
        kind: str,
        more: Mapping[str, str] = MappingProxyType({}),
        *,
        sent: int | None = None,
    ) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(content)))
        for name, value in more.items():
            if value:
                handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content[:sent])
        handler.close_connection = sent is not None
