"""What annotators said of an image: what learners are taught, and what their answers are compared with.

Nothing here knows Label Studio. Places are in shares of the upright image's width and height, from 0 to 1, so that they
hold at any resolution.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any, Literal, Self

VisionTask = Literal["classification", "detection", "segmentation", "face"]


@dataclass(frozen=True)
class ChoiceTarget:
    """What the annotators of a task chose.

    votes: class → share of the annotators who chose it; classes that nobody chose are left out. Sums to 1 for
        single choice, where an annotator who gave several classes counts for each in equal parts.
    annotators: how many annotators that is, at least 1.
    multiple: whether an annotator might choose several classes, or none.
    """

    votes: Mapping[str, float]
    annotators: int
    multiple: bool

    @property
    def agreement(self) -> float:
        """Share of the annotators behind the majority answer, in (0, 1].

        Multiple choice: each class is a question of its own (chosen or not), and this is the mean over the
        classes that anyone chose; 1 if all chose none.
        """
        if not self.multiple:
            return max(self.votes.values())
        shares = [max(vote, 1 - vote) for vote in self.votes.values()]
        return math.fsum(shares) / len(shares) if shares else 1.0

    @property
    def majority(self) -> frozenset[str] | None:
        """The classes that the majority chose.

        Single choice: the class with most votes, None on a tie. Multiple choice: every class that more than
        half of the annotators chose, possibly none.
        """
        if self.multiple:
            return frozenset(name for name, vote in self.votes.items() if vote > 0.5)
        most = max(self.votes.values())
        winners = frozenset(name for name, vote in self.votes.items() if math.isclose(vote, most))
        return winners if len(winners) == 1 else None

    def to_json(self) -> dict[str, Any]:
        return {"votes": dict(self.votes), "annotators": self.annotators, "multiple": self.multiple}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(votes=dict(data["votes"]), annotators=data["annotators"], multiple=data["multiple"])


@dataclass(frozen=True)
class Box:
    """An axis-aligned box around an object: 0 <= left < right <= 1 and 0 <= top < bottom <= 1."""

    label: str
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class BoxTarget:
    """The objects in an image; of several annotators, those of the one whom the others agree with most.

    boxes: none where the annotators say that there is nothing.
    annotators: how many there were, at least 1.
    agreement: mean agreement of the chosen annotator with the others, in [0, 1]; 1 for a single one.
    """

    boxes: tuple[Box, ...]
    annotators: int = 1
    agreement: float = 1.0

    def to_json(self) -> dict[str, Any]:
        boxes = [[box.label, box.left, box.top, box.right, box.bottom] for box in self.boxes]
        return {"boxes": boxes, "annotators": self.annotators, "agreement": self.agreement}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        boxes = tuple(Box(*values) for values in data["boxes"])
        return cls(boxes, data["annotators"], data["agreement"])


@dataclass(frozen=True)
class Polygon:
    """A region by its outline. points: at least three corners (x, y)."""

    label: str | None
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Bitmap:
    """A region by its pixels.

    counts: COCO's compressed run lengths (pycocotools.mask) of a mask of height × width pixels.
    """

    label: str | None
    counts: str
    width: int
    height: int


@dataclass(frozen=True)
class MaskTarget:
    """Which class each part of an image is of; of several annotators, as in BoxTarget.

    regions: the later ones cover the earlier ones. A region whose label is None is ignored in training and in
        measuring. What no region covers is background.
    width, height: pixels of the original image; 0 where no region tells, as in an image that has none.
    """

    regions: tuple[Polygon | Bitmap, ...]
    width: int
    height: int
    annotators: int = 1
    agreement: float = 1.0

    def to_json(self) -> dict[str, Any]:
        regions = [
            {"label": r.label, "points": [list(point) for point in r.points]}
            if isinstance(r, Polygon)
            else {"label": r.label, "counts": r.counts, "size": [r.width, r.height]}
            for r in self.regions
        ]
        size = [self.width, self.height]
        return {"regions": regions, "size": size, "annotators": self.annotators, "agreement": self.agreement}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        regions: list[Polygon | Bitmap] = [
            Polygon(r["label"], tuple((x, y) for x, y in r["points"]))
            if "points" in r
            else Bitmap(r["label"], r["counts"], *r["size"])
            for r in data["regions"]
        ]
        width, height = data["size"]
        return cls(tuple(regions), width, height, data["annotators"], data["agreement"])


Target = ChoiceTarget | BoxTarget | MaskTarget


def votes_of(target: Target) -> Mapping[str, float]:
    """Class → share of the votes for it, or 1 for each class of which an object or region is there."""
    match target:
        case ChoiceTarget():
            return target.votes
        case BoxTarget():
            return dict.fromkeys((box.label for box in target.boxes), 1.0)
        case MaskTarget():
            return dict.fromkeys((region.label for region in target.regions if region.label is not None), 1.0)


@dataclass(frozen=True)
class Prediction:
    """What a learner says of an image, in the terms in which annotators answer.

    target: its answer; of a box with somebody unknown in it, the label is "". confidences: in [0, 1], of each class
        chosen, box or region, in the target's order.
    confidence: of the whole answer, in [0, 1].
    size: width and height in pixels of the original image, upright, where the learner knows them.
    """

    target: Target
    confidences: Sequence[float]
    confidence: float
    size: tuple[int, int] | None = None

    def among(self, classes: Collection[str]) -> Prediction:
        """The prediction without the classes, boxes and regions of other names. A box without a name stays."""
        match self.target:
            case ChoiceTarget(votes, annotators, multiple):
                kept = [name in classes for name in votes]
                target: Target = ChoiceTarget(
                    {name: vote for name, vote in votes.items() if name in classes}, annotators, multiple
                )
            case BoxTarget(boxes=boxes):
                kept = [not box.label or box.label in classes for box in boxes]
                target = replace(self.target, boxes=tuple(compress(boxes, kept)))
            case MaskTarget(regions=regions):
                kept = [region.label in classes for region in regions]
                target = replace(self.target, regions=tuple(compress(regions, kept)))
        return replace(self, target=target, confidences=list(compress(self.confidences, kept)))
