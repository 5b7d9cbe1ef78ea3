"""The charts: learning curves and labels saved, readable without colour and on light and dark ground."""

import io
import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from backend.simulation.outcome import Outcome
from backend.simulation.summary import RANDOM, TARGETS, Curve, estimate

# Okabe & Ito (2008), "Color universal design", less black and yellow, which a dark or light ground swallows.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINES = ("-", "--", "-.", ":")  # where there are more strategies than colours
INK = "#222222"
# Stands for the page's colour of text in an SVG, and is replaced by it.
PAGE_INK = "#010203"
LONGEST_NAME = 48


def draw_curves(found: Outcome, path: Path) -> None:
    """The learning curves as PNG."""
    _curves(found, INK).savefig(path, dpi=150)


def curves_svg(found: Outcome) -> str:
    """The learning curves, to be put into a page."""
    return _svg(_curves(found, PAGE_INK), "curves")


def saved_svg(found: Outcome) -> str:
    """Labels saved against random, to be put into a page."""
    return _svg(_saved(found, PAGE_INK), "saved")


def _curves(found: Outcome, ink: str) -> Figure:
    figure = Figure(figsize=(9.5, 5.5), layout="constrained")
    axes = figure.add_subplot()
    by_strategy: dict[str, list[Curve]] = {}
    for curve in found.curves:
        by_strategy.setdefault(curve.strategy, []).append(curve)
    for strategy, own in by_strategy.items():
        _band(axes, own, *_style(strategy, list(by_strategy), ink))
    full = found.full_data_score
    axes.axhline(full, color=ink, linewidth=1)
    for share in (1, *TARGETS):
        if share < 1:
            axes.axhline(share * full, color=ink, linewidth=0.6, linestyle=(0, (1, 3)))
        axes.annotate(
            "all data" if share == 1 else f"{share:.0%} of it",
            (1, share * full),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va={1: "bottom", max(TARGETS): "top"}.get(share, "center"),  # these two lie close together
            fontsize=8,
            color=ink,
        )
    axes.set_xlabel(f"labels, the {found.facts.audit_share:.0%} of audit tasks counted")
    axes.set_ylabel(f"{found.facts.metric} on the test set")
    axes.set_title(f"{found.facts.dataset}: {found.facts.metric} against labels, {_over(found.facts.seeds)}")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlim(left=0, right=max(curve.labels[-1] for curve in found.curves))
    axes.set_ylim(_lowest(found.curves), 1.02 * full)
    legend = axes.legend(loc="lower right", frameon=False, fontsize=9, labelcolor=ink)
    legend.set_zorder(5)
    _finish(axes, ink)
    return figure


def _saved(found: Outcome, ink: str) -> Figure:
    others = [summary for summary in found.summaries if summary.strategy != RANDOM]
    figure = Figure(figsize=(9.5, 1.5 + 0.5 * max(1, len(others))), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, len(TARGETS), sharey=True, sharex=True, squeeze=False)[0]
    names = [summary.strategy for summary in found.summaries]
    for column, (axes, share) in enumerate(zip(panels, TARGETS, strict=True)):
        axes.axvline(0, color=ink, linewidth=1)
        for row, summary in enumerate(others):
            colour, _ = _style(summary.strategy, names, ink)
            saved = summary.targets[column].saved
            if saved is None:
                axes.text(
                    0.02,
                    row,
                    "not reached by every seed",
                    transform=axes.get_yaxis_transform(),
                    color=ink,
                    fontsize=8,
                    va="center",
                )
                continue
            if saved.low is not None and saved.high is not None:
                axes.plot([saved.low, saved.high], [row, row], color=colour, linewidth=2)
            axes.plot(saved.mean, row, marker=">" if summary.targets[column].at_least else "o", color=colour)
        axes.set_title(f"to {share:.0%} of the full-data score", fontsize=10)
        axes.set_yticks(range(len(others)), [_short(summary.strategy) for summary in others])
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_ylim(len(others) - 0.5, -0.5)
        _finish(axes, ink)
    panels[0].set_xlim(*_range(found))
    figure.supxlabel("share of random's labels saved", fontsize=10, color=ink)
    return figure


def _band(axes: Axes, own: Sequence[Curve], colour: str, line: str) -> None:
    """Mean and confidence band over the seeds, as far as all of them come."""
    length = min(len(curve.labels) for curve in own)
    labels = own[0].labels[:length]
    points = [estimate([curve.scores[i] for curve in own]) for i in range(length)]
    axes.plot(
        labels,
        [point.mean for point in points],
        color=colour,
        linestyle=line,
        linewidth=2,
        label=_short(own[0].strategy),
    )
    if points[0].low is not None:
        low = [point.mean if point.low is None else point.low for point in points]
        high = [point.mean if point.high is None else point.high for point in points]
        axes.fill_between(
            labels, np.clip(low, 0, 1), np.clip(high, 0, 1), color=colour, alpha=0.13, linewidth=0
        )


def _style(strategy: str, strategies: Sequence[str], ink: str) -> tuple[str, str]:
    if strategy == RANDOM:
        return ink, "--"
    place = [name for name in strategies if name != RANDOM].index(strategy)
    return COLOURS[place % len(COLOURS)], LINES[place // len(COLOURS) % len(LINES)]


def _lowest(found: Sequence[Curve]) -> float:
    """Where the axis of scores starts: the first points may lie far below all that matters."""
    means = [
        np.mean([curve.scores[0] for curve in found if curve.strategy == s])
        for s in {c.strategy for c in found}
    ]
    return max(0.0, float(min(means)) - 0.02)


def _range(found: Outcome) -> tuple[float, float]:
    ends = [0.0, 0.1, -0.1]
    for summary in found.summaries:
        for target in summary.targets:
            if target.saved is not None:
                ends += [v for v in vars(target.saved).values() if v is not None]
    return max(-1.0, min(ends) - 0.05), min(1.0, max(ends) + 0.05)


def _finish(axes: Axes, ink: str) -> None:
    axes.tick_params(colors=ink, labelsize=9)
    for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
        text.set_color(ink)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _over(seeds: int) -> str:
    return "one seed" if seeds == 1 else f"mean and 95% band over {seeds} seeds"


def _svg(figure: Figure, name: str) -> str:
    """The figure's SVG element, of the page's colours and font; `name` keeps its ids apart from other figures'."""
    written = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    text = written.getvalue()
    text = text[text.index("<svg") :].replace(PAGE_INK, "currentColor")
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{name}-", text)
    return re.sub(r'(?<=<svg) height="[^"]*" width="[^"]*"| width="[^"]*" height="[^"]*"', "", text, count=1)
