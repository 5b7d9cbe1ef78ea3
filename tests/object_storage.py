"""An S3 server for tests: another program's, spoken to over HTTP."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from backend.demo.label_studio import free_port

BUCKET = "learning"


class S3Server:
    """A running server with one bucket; what it holds is lost when it is stopped, not when it is paused.

    environment: the variables with which everybody reaches it. url: of a prefix in the bucket.
    """

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"s3://{BUCKET}/team-a"
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "a-key",
            "AWS_SECRET_ACCESS_KEY": "a-secret",
            "AWS_REGION": "eu-central-1",
            "AWS_DEFAULT_REGION": "eu-central-1",
        }
        program = [str(Path(sys.executable).with_name("moto_server")), "-p", str(self.port)]
        with (folder / "s3.log").open("wb") as log:
            self._process = subprocess.Popen(program, stdout=log, stderr=log)

    def wait(self) -> None:
        """Wait until it answers, and make the bucket."""
        for _ in range(300):
            try:
                httpx.put(f"{self.endpoint}/{BUCKET}", trust_env=False).raise_for_status()
                return
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError("the S3 server does not start")

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """A server during the block. folder: for its log."""
    server = S3Server(folder)
    try:
        server.wait()
        yield server
    finally:
        server.stop()
