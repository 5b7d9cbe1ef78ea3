"""The command that checks a deployment."""

from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table
from rich.text import Text

from backend.cli.deployed import OnlyProjectOption
from backend.cli.terminal import JsonOption, console, print_json
from backend.printable import printable, printable_lines

if TYPE_CHECKING:
    from backend.doctor.check import Check, Finding

STYLES = {"fine": "green", "warning": "yellow", "broken": "bold red"}


def doctor(project: OnlyProjectOption = None, as_json: JsonOption = False) -> None:
    """Check everything that a deployment can have wrong, and say how to mend it. Changes nothing.

    Exit code 1 where something is broken; warnings are no failure.
    """
    with console.status("loading"):
        from backend.doctor.check import carry_out
        from backend.doctor.examination import Examination

    examination = Examination(project)
    done: list[tuple[Check, Finding]] = []
    for check in examination.checks():
        if as_json:
            done.append((check, carry_out(check, examination.secrets)))
            continue
        if not done or done[-1][0].area != check.area:
            console.print(Text(f"\n{printable(check.area)}", style="bold"))
        with console.status(check.name):
            done.append((check, carry_out(check, examination.secrets)))
        _print(*done[-1])
    verdicts = [finding.verdict.value for _, finding in done]
    worst = max(verdicts, key=list(STYLES).index)
    if as_json:
        print_json({"verdict": worst, "checks": [_facts(*one) for one in done]})
    else:
        console.print(f"\n{', '.join(f'{verdicts.count(verdict)} {verdict}' for verdict in STYLES)}")
    raise typer.Exit(1 if worst == "broken" else 0)


def _print(check: "Check", finding: "Finding") -> None:
    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_column(width=7)
    row.add_column(width=18)
    row.add_column(overflow="fold", ratio=1)
    remedy = f"\n→ {finding.remedy}" if finding.remedy else ""
    row.add_row(
        Text(finding.verdict, style=STYLES[finding.verdict]),
        Text(check.name),
        Text(printable_lines(finding.found + remedy)),
    )
    console.print(row)


def _facts(check: "Check", finding: "Finding") -> dict[str, Any]:
    return {
        "area": check.area,
        "name": check.name,
        "verdict": finding.verdict,
        "found": finding.found,
        "remedy": finding.remedy or None,
    }
