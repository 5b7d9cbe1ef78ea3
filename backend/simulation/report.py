"""The results as files: curves.json, curves.png and report.html."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from backend.simulation.headline import headline
from backend.simulation.outcome import Outcome, write_json
from backend.simulation.plots import curves_svg, draw_curves, saved_svg
from backend.simulation.summary import CHANGES, TARGETS
from backend.simulation.table import against_random, labels_to


def write_results(found: Outcome, folder: Path) -> None:
    """Write all three, replacing those there."""
    write_json(found, folder / "curves.json")
    draw_curves(found, folder / "curves.png")
    (folder / "report.html").write_text(render(found))


def render(found: Outcome) -> str:
    """The report: one page that needs nothing beside it."""
    environment = Environment(
        loader=PackageLoader("backend.simulation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "points": _points, "against_random": against_random}
    return environment.get_template("report.html.jinja").render(
        found=found,
        facts=found.facts,
        headline=headline(found.summaries),
        curves=Markup(curves_svg(found)),  # noqa: S704  # ours, and matplotlib escapes text
        saved=Markup(saved_svg(found)) if len(found.summaries) > 1 else "",  # noqa: S704
        shares=TARGETS,
        changes=CHANGES,
        labels_to=labels_to,
    )


def _percent(share: float | None, decimals: int = 1) -> str:
    return "–" if share is None else f"{share:.{decimals}%}"


def _points(change: float | None) -> str:
    """A change of a score in percentage points."""
    return "–" if change is None else f"{100 * change:+.1f}"
