"""The commands that run on: the server, the worker, the demo."""

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from backend.cli.deployed import deployed
from backend.cli.terminal import console

NICE = 10  # how far workers stand back


def demo(
    annotate: Annotated[int, typer.Option(help="Play the annotator for so many labels, then stop.")] = 0,
    port: Annotated[int, typer.Option(help="Port of Label Studio.")] = 8080,
    backend_port: Annotated[int, typer.Option(help="Port of the backend.")] = 9090,
) -> None:
    """Try the whole loop on a Label Studio of its own, with handwritten digits."""
    from backend.failures import fail, failures

    try:
        from backend.demo.backend import BackendStartError
        from backend.demo.demo import DemoError, run_demo
        from backend.demo.label_studio import LabelStudioStartError
    except ImportError as error:
        fail(f"The demo needs a package that is not installed: {error.name}. `make demo` installs it.")
    with failures():
        try:
            run_demo(annotate, port, backend_port)
        except (DemoError, LabelStudioStartError, BackendStartError) as error:
            fail(str(error))
        except KeyboardInterrupt:
            console.print("Stopped. `make demo` resumes.")


def serve() -> None:
    """Serve Label Studio's calls and the dashboard, with gunicorn."""
    from backend.failures import fail
    from backend.server import Server

    with deployed() as deployment:  # prepared once, before several processes would
        if deployment.settings.has_half_a_basic_auth:
            fail(
                "Only one of BASIC_AUTH_USER and BASIC_AUTH_PASS is set, so nobody would be asked for either: "
                "set both, or neither."
            )
        deployment.database.engine.dispose()  # processes that are forked must not share a connection
    Server(deployment.settings).run()


def worker() -> None:
    """Run the rounds. Several workers may run, on one machine or on many."""
    from backend.loop.jobs import Jobs

    with deployed() as deployment:
        _let_others_go_first()
        Jobs(deployment).run_worker()
    logging.shutdown()
    os._exit(0)  # see `run_worker`


def _let_others_go_first() -> None:
    """Answering Label Studio goes before training."""
    os.nice(NICE)
    # Linux may schedule sessions as groups, and nice then counts within one only: sched(7).
    if os.getsid(0) == os.getpid():
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(NICE))
