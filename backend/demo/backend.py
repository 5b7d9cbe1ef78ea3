"""The backend's own processes, server and worker, started and stopped together."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

START_TIMEOUT = 120.0  # seconds; importing torch on a busy machine takes some
STOP_TIMEOUT = 10.0


class BackendStartError(Exception):
    """The server or the worker did not start; the message says why."""


class BackendProcesses:
    """`active-learning serve` and `active-learning worker`. Also a context manager.

    Args:
        environment: their settings, on top of this process's environment; PORT and MODEL_DIR are needed.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        # Bytecode is cached in any case: compiling torch's thousands of modules anew takes many seconds.
        inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        self.environment = {**inherited, **environment}
        self.url = f"http://127.0.0.1:{environment['PORT']}"
        self._folder = Path(environment["MODEL_DIR"])
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start both and wait until the server answers.

        Raises:
            BackendStartError: a process ended, or the server does not answer in time.
        """
        self.start_process("serve")
        self.start_process("worker")
        deadline = time.monotonic() + START_TIMEOUT
        while not self.answers():
            if not self.running("serve") or time.monotonic() > deadline:
                self.stop()
                raise BackendStartError(
                    f"The backend does not start. Its log ends with:\n{self.log_tail('serve')}"
                )
            time.sleep(0.1)

    def start_process(self, command: str, program: Sequence[str] = ()) -> None:
        """Start one of the two (`serve`, `worker`), or in its place another program."""
        executable = str(Path(sys.executable).parent / "active-learning")
        path = f"{Path(sys.executable).parent}:{self.environment.get('PATH', '')}"
        self._folder.mkdir(parents=True, exist_ok=True)
        with self.log(command).open("ab") as log:
            self._processes[command] = subprocess.Popen(
                program or [executable, command],
                env={**self.environment, "PATH": path, "HOST": "127.0.0.1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self) -> None:
        """Ask all to end, then make them."""
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            for command in self._processes:
                self.signal(command, signal_number)
            deadline = time.monotonic() + STOP_TIMEOUT
            while any(map(self.running, self._processes)) and time.monotonic() < deadline:
                time.sleep(0.05)

    def signal(self, command: str, signal_number: int) -> None:
        """Send a signal to a process and those that it started."""
        if self.running(command):
            os.killpg(self._processes[command].pid, signal_number)

    def pids(self, command: str) -> list[int]:
        """A process, and after it those that it has started."""
        if not self.running(command):
            return []
        first = self._processes[command].pid
        started = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [first, *map(int, started)]

    def running(self, command: str) -> bool:
        """Whether the process runs."""
        process = self._processes.get(command)
        return process is not None and process.poll() is None

    def wait(self, command: str, timeout: float) -> int:
        """Wait for a process to end; returns its exit code."""
        return self._processes[command].wait(timeout)

    def log(self, command: str) -> Path:
        """Where a process writes its log."""
        return self._folder / f"{command}.log"

    def log_tail(self, command: str, lines: int = 20) -> str:
        """The end of a process's log."""
        path = self.log(command)
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    def answers(self) -> bool:
        """Whether the server answers."""
        try:
            return httpx.get(f"{self.url}/health", timeout=2, trust_env=False).is_success
        except httpx.HTTPError:
            return False
