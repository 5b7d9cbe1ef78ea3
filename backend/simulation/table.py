"""The results on the terminal."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from backend.simulation.outcome import Outcome, headline
from backend.simulation.summary import TARGETS, Estimate, LabelsToTarget, StrategySummary

VERDICT_STYLES = {"better": "green", "worse": "red"}


def print_table(console: Console, found: Outcome, folder: Path) -> None:
    """One row a strategy, then the conclusion and where the rest is."""
    facts = found.facts
    table = Table(
        title=f"{facts.dataset}: {facts.pool} images to label, {facts.test} to test on, {facts.seeds} seeds",
        caption=f"Full-data score {found.full_data_score:.1%}. In brackets: share of random's labels saved, "
        "with its 95 % interval.",
    )
    table.add_column("strategy", overflow="fold")
    table.add_column("mean score", justify="right")
    table.add_column("against random")
    for share in TARGETS:
        table.add_column(f"labels to {share:.0%}", justify="right")
    table.add_column(f"score at {facts.budget}", justify="right")
    table.add_column("s to select", justify="right")
    for summary in found.summaries:
        table.add_row(
            summary.strategy,
            f"{summary.area.mean:.1%}",
            against_random(summary),
            *(labels_to(target, facts.seeds) for target in summary.targets),
            f"{summary.final_score.mean:.1%}",
            f"{summary.select_seconds:.2f}",
            style=VERDICT_STYLES.get(summary.verdict),
        )
    console.print(table)
    console.print(headline(found), highlight=False, markup=False)
    console.print(
        f"Written: {', '.join(str(folder / name) for name in FILES)}", highlight=False, markup=False
    )


FILES = ("report.html", "curves.png", "curves.json")


def against_random(summary: StrategySummary) -> str:
    """The gain in the mean score, in percentage points, and whether it is significant."""
    if summary.gain is None:
        return summary.verdict
    points = f"{100 * summary.gain.mean:+.1f}"
    if summary.gain.low is not None and summary.gain.high is not None:
        points += f" [{100 * summary.gain.low:+.1f}, {100 * summary.gain.high:+.1f}]"
    return f"{points} {summary.verdict}".strip()


def labels_to(target: LabelsToTarget, seeds: int) -> str:
    """How many labels, and what that saved."""
    if target.labels is None:
        return "–" if not target.reached else f"– ({target.reached} of {seeds} seeds)"
    saved = f" ({'≥ ' if target.at_least else ''}{percentages(target.saved)})" if target.saved else ""
    return f"{target.labels:.0f}{saved}"


def percentages(estimate: Estimate) -> str:
    """A share with its interval."""
    if estimate.low is None or estimate.high is None:
        return f"{estimate.mean:.0%}"
    return f"{estimate.mean:.0%} [{estimate.low:.0%}, {estimate.high:.0%}]"
