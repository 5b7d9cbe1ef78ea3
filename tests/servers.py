"""A PostgreSQL and a Redis of the tests' own, which can be stopped, killed and started again."""

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import sqlalchemy

from backend.demo.label_studio import free_port

PATIENCE = 60.0  # seconds; a machine may be busy


def program(name: str) -> str:
    """A server's executable; CI must have it, elsewhere its absence skips the test."""
    found = shutil.which(name) or next(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), None)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have {name}")
        pytest.skip(f"{name} is not installed on this machine")
    return found


def _wait_until(answers: Callable[[], object], failure: type[Exception]) -> None:
    """Wait for a server that was started; raises its failure where it does not come up."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            answers()
            return
        except failure:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


class PostgreSQL:
    """A server whose data survive its end, until `remove`.

    durable: a commit waits until the disk has it, which tests need not.
    """

    def __init__(self, folder: Path, durable: bool = False) -> None:
        # PostgreSQL refuses to run as root; its folder must then be reachable for another user.
        user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        self._port = free_port()
        self._folder = Path("/tmp") / f"postgresql-{self._port}" if user else folder
        self._folder.mkdir(exist_ok=True)
        self._durable = durable
        self._as_user: dict[str, Any] = {}
        if user:
            shutil.chown(self._folder, user.pw_uid, user.pw_gid)
            self._as_user = {"user": user.pw_uid, "group": user.pw_gid, "cwd": self._folder}
        self._data = str(self._folder / "data")
        self.url = f"postgresql://postgres@127.0.0.1:{self._port}/postgres"
        command = [program("initdb"), "-D", self._data, "-A", "trust", "-U", "postgres", "-N"]
        subprocess.run(command, check=True, capture_output=True, **self._as_user)
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [program("postgres"), "-D", self._data, "-p", str(self._port), "-h", "127.0.0.1"]
        command += ["-k", str(self._folder), "-c", "max_connections=500", *([] if self._durable else ["-F"])]
        with (self._folder / "log").open("ab") as log:
            self._server = subprocess.Popen(command, stdout=log, stderr=log, **self._as_user)
        engine = sqlalchemy.create_engine(self.url.replace("postgresql", "postgresql+pg8000"))
        _wait_until(lambda: engine.connect().close(), sqlalchemy.exc.SQLAlchemyError)
        engine.dispose()

    def stop(self) -> None:
        """End it without waiting for its clients to leave: their connections break."""
        self._server.send_signal(signal.SIGINT)
        self._server.wait()

    def remove(self) -> None:
        """End it, and delete its data."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


class Redis:
    """A server that keeps nothing on the disk: what was queued is gone with it."""

    def __init__(self, folder: Path) -> None:
        self._port, self._folder = free_port(), folder
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [program("redis-server"), "--port", str(self._port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self._folder), "--save", "", "--databases", "10000"]
        self._server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        with redis.Redis.from_url(self.url) as client:
            _wait_until(client.ping, redis.RedisError)

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        self._server.send_signal(number)

    def stop(self) -> None:
        """Kill it."""
        self._server.kill()
        self._server.wait()
