"""The results on the terminal."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from backend.simulation.headline import headline
from backend.simulation.outcome import Outcome
from backend.simulation.summary import TARGETS, Estimate, LabelsToTarget, StrategySummary

FILES = ("report.html", "curves.png", "curves.json")
VERDICT_STYLES = {"better": "green", "worse": "red"}
MAIN_TARGET = TARGETS.index(0.95)


def print_table(console: Console, found: Outcome, folder: Path) -> None:
    """One row a strategy, then the conclusion and where the rest is."""
    facts = found.facts
    table = Table(
        title=f"{facts.dataset}: {facts.pool} images to label, {facts.test} to test on, seeds: {facts.seeds}",
        caption=f"Labels to shares of the full-data score, {found.full_data_score:.1%}.",
    )
    table.add_column("strategy", overflow="fold")
    table.add_column("mean\nscore", justify="right")
    table.add_column("against\nrandom")
    for share in TARGETS:
        table.add_column(f"to\n{share:.0%}", justify="right", no_wrap=True)
    table.add_column(f"saved to {TARGETS[MAIN_TARGET]:.0%},\n95% interval", justify="right")
    table.add_column("s to\nselect", justify="right")
    for summary in found.summaries:
        table.add_row(
            summary.strategy,
            f"{summary.area.mean:.1%}",
            summary.verdict if summary.gain is None else f"{100 * summary.gain.mean:+.1f} {summary.verdict}",
            *("–" if target.labels is None else f"{target.labels:.0f}" for target in summary.targets),
            saved(summary.targets[MAIN_TARGET]),
            f"{summary.select_seconds:.2f}",
            style=VERDICT_STYLES.get(summary.verdict),
        )
    console.print(table)
    console.print(headline(found.summaries), highlight=False, markup=False)
    console.print(f"Written to {folder}: {', '.join(FILES)}", highlight=False, markup=False, soft_wrap=True)


def against_random(summary: StrategySummary) -> str:
    """The gain in the mean score with its interval, in percentage points, and whether it is significant."""
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
    return f"{target.labels:.0f} ({saved(target)})" if target.saved else f"{target.labels:.0f}"


def saved(target: LabelsToTarget) -> str:
    """The share of random's labels that was saved."""
    if target.saved is None:
        return ""
    return f"{'≥ ' if target.at_least else ''}{_percentages(target.saved)}"


def _percentages(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.mean:.0%}"
    return f"{estimate.mean:.0%} [{estimate.low:.0%}, {estimate.high:.0%}]"
