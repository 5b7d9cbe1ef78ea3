"""The report of features as a picture: heat maps over the mean faces, and bars for dimensions."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from backend.learners.faces.feature_report import ConfusablePair, FeatureReport, PersonMap

# Okabe & Ito (2008), "Color universal design": told apart by the colour-blind.
HELPS, MISLEADS, BAR = "#D55E00", "#0072B2", "#555555"
OPACITY = 0.75
LONGEST_NAME = 20


def plot_feature_report(report: FeatureReport, path: Path) -> None:
    """Draw it, in the format that the path's suffix names: in a row, two people and what tells them apart."""
    figure = Figure(figsize=(9.5, 0.9 + 2.7 * len(report.pairs)), layout="constrained")
    axes = figure.subplots(len(report.pairs), 3, squeeze=False, width_ratios=(1, 1, 2))
    strongest = max(float(np.abs(found.importance).max()) for found in report.maps)
    norm = Normalize(-strongest, strongest)
    for row, pair in zip(axes, report.pairs, strict=True):
        for place, name in zip(row, pair.people, strict=False):
            heat = _face(place, report.map_of(name), norm)
        _bars(row[2], pair, report)
    bar = figure.colorbar(heat, ax=axes[:, :2], location="bottom", shrink=0.8, aspect=40)
    bar.set_label(
        "fall of the lead over the likest other when covered:\norange helps, blue misleads", fontsize=9
    )
    bar.ax.tick_params(labelsize=8)
    figure.suptitle("What tells apart those who are hardest to tell apart", fontsize=12)
    figure.savefig(path, dpi=150)


def _face(axes: Axes, found: PersonMap, norm: Normalize) -> AxesImage:
    """The mean face in grey under its map."""
    height, width = found.face.shape[:2]
    whole = (0, width, height, 0)
    axes.imshow(found.face.mean(axis=2), cmap="gray", vmin=0, vmax=1, extent=whole)
    colours = LinearSegmentedColormap.from_list("importance", [MISLEADS, "#FFFFFF", HELPS])
    shares = np.abs(norm(found.importance) * 2 - 1)
    heat = axes.imshow(
        found.importance,
        cmap=colours,
        norm=norm,
        alpha=OPACITY * shares,
        interpolation="bilinear",
        extent=whole,
    )
    axes.set_title(_short(found.name), fontsize=10)
    axes.set_axis_off()
    return heat


def _bars(axes: Axes, pair: ConfusablePair, report: FeatureReport) -> None:
    """The strongest dimensions, and how few are enough."""
    strongest = pair.strongest
    places = np.arange(len(strongest))
    enough = len(strongest) if pair.sufficient is None else pair.sufficient
    axes.bar(places, pair.fisher_ratios[strongest], color=[HELPS if p < enough else BAR for p in places])
    axes.set_xticks(places, [str(dimension) for dimension in strongest], fontsize=8)
    axes.set_xlabel("dimension of the embedding", fontsize=8)
    axes.set_ylabel("Fisher ratio", fontsize=8)
    axes.tick_params(axis="y", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(_in_words(pair, report.dimensions), fontsize=9)


def _in_words(pair: ConfusablePair, dimensions: int) -> str:
    lead = f"lead over each other: {pair.margin:.2f}"
    if pair.sufficient is None or pair.accuracy is None:
        return lead
    enough = f"dimensions that suffice: {pair.sufficient} of {dimensions}, {pair.accuracy:.0%} right"
    return f"{lead}\n{enough}"


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
