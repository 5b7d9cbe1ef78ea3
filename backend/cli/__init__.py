"""The command line: `active-learning`."""

from typing import Any

import typer
from typer.core import TyperGroup

from backend.cli.doctor import doctor
from backend.cli.processes import demo, serve, worker
from backend.cli.projects import connect, disconnect, faces, queue, rounds, status
from backend.cli.strategies import strategies

__all__ = ["app", "worker"]

HELP = """Active learning for Label Studio: the next task is always the one worth labeling.

Exit codes: 0, fine; 1, failed, with a sentence on standard error, or `doctor` found something broken; 2, wrong usage.

Shell completion: `active-learning --install-completion`, then open a new shell.
"""


class Commands(TyperGroup):
    """The commands. `simulate` is imported when it is run: its options have the loop's defaults, which take seconds."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, _simulate_command() if name == "simulate" else command, rest


app = typer.Typer(
    cls=Commands,
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
)
app.command()(demo)
app.command()(serve)
app.command()(worker)
app.command()(connect)
app.command()(disconnect)
app.command()(status)
app.command()(rounds)
app.command()(queue)
app.command()(strategies)


@app.command()
def simulate() -> None:
    """Replay labeling on a labeled dataset: what would each strategy have saved against random order?"""


app.command()(doctor)
app.command()(faces)


def _simulate_command() -> Any:
    from backend.simulation.command import simulate

    alone = typer.Typer(pretty_exceptions_show_locals=False, add_completion=False)
    alone.command()(simulate)
    return typer.main.get_command(alone)
