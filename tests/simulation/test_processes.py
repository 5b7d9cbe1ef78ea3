"""Nothing is left running."""

import subprocess
import sys
from pathlib import Path

STARTS_A_WORKER = """
import multiprocessing
import time

from backend.simulation.processes import end_with_parent


def work(pipe):
    end_with_parent()
    pipe.send("working")
    time.sleep(600)


if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    ours, its = context.Pipe()
    context.Process(target=work, args=(its,)).start()
    print(ours.recv(), flush=True)
    time.sleep(600)
"""


def test_a_worker_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "starts_a_worker.py"
    script.write_text(STARTS_A_WORKER)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "working\n"
    parent.kill()
    # The worker holds the other end of the pipe, too: it is at its end only when the worker is.
    assert parent.communicate(timeout=60)[0] == ""
