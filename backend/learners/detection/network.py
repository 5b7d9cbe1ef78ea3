"""What detectors have in common: what they are taught, and how what the members find becomes the boxes that are kept.

The members of the committee are Monte-Carlo dropout draws (Gal & Ghahramani, ICML 2016, "Dropout as a Bayesian
approximation") before the last layers: the network looks at an image once, and each member is a choice of the features
that these layers may use. It is the same for all images. All members judge the same places, so that what they say of
an object needs no matching.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import nms, roi_align

from backend.learners.backbones import REDUCTIONS, Pyramid

LEAST_PROBABILITY = 0.05  # of a box that is kept
SAME_OBJECT = 0.5  # overlap at which, of two boxes of a class, the likelier one is kept
MOST_BOXES = 50  # kept of an image
CANDIDATES = 300  # of an image, before those that are the same object are sorted out
DROPPED = 0.1  # share of the features before the last layers, in training and in each member
POOLED = 3  # a side of the grid of features whose mean is an object's embedding


class Found(NamedTuple):
    """Boxes in a batch of images, image by image, the likeliest first.

    images: (boxes,) which image of the batch each is in. probabilities: (members, boxes, classes). boxes: (boxes, 4)
    left, top, right, bottom in pixels, the mean of the members'. localisation: (boxes,) mean overlap of the members'
    boxes with it. embeddings: (boxes, dimension), each of length 1.
    """

    images: Tensor
    probabilities: Tensor
    boxes: Tensor
    localisation: Tensor
    embeddings: Tensor


class Candidates(NamedTuple):
    """Places that may hold an object. images: (k,); probabilities: (members, k, classes); boxes: (members, k, 4)."""

    images: Tensor
    probabilities: Tensor
    boxes: Tensor


class Network(nn.Module, ABC):
    """A detector on a feature pyramid. Images are as the pyramid takes them, (n, 3, height, width)."""

    pyramid: Pyramid

    def pretrained(self) -> list[nn.Parameter]:
        """The parameters that have learnt before."""
        return self.pyramid.pretrained()

    @abstractmethod
    def loss(self, images: Tensor, boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> Tensor:
        """What training lessens. boxes: for each image (k, 4) in pixels; labels: (k,) places of their classes."""

    @abstractmethod
    def candidates(self, maps: Sequence[Tensor], canvas: Tensor) -> Candidates:
        """What the members say of the likeliest places. maps: the pyramid's; canvas: the images, for their size."""

    def forward(self, images: Tensor, sizes: Tensor) -> Found:
        """What is found. sizes: (n, 2) height and width of the images in the canvas."""
        maps = list(self.pyramid(images).values())
        candidates = self.candidates(maps, images)
        limits = sizes.flip(1).repeat(1, 2)[candidates.images].to(candidates.boxes)
        drawn = torch.minimum(candidates.boxes.clamp(min=0), limits)
        boxes = drawn.mean(dim=0)
        scores, labels = candidates.probabilities.mean(dim=0).max(dim=1)
        kept = distinct(candidates.images, boxes, scores, labels)
        return Found(
            candidates.images[kept],
            candidates.probabilities[:, kept],
            boxes[kept],
            _overlap(drawn[:, kept], boxes[kept]).mean(dim=0),
            _embed(maps[0], candidates.images[kept], boxes[kept]),
        )


def draw_members(members: int, *features: int) -> Tensor:
    """(members, *features) by what each member multiplies features: 0 for those that it drops."""
    return functional.dropout(torch.ones(members, *features), DROPPED)


def last_layer(features: Tensor, weight: Tensor, bias: Tensor, members: Tensor) -> Tensor:
    """(members, k, outputs) of a linear layer on features (k, inputs), which members (members, inputs) multiply."""
    return torch.einsum("ki,moi->mko", features, weight * members[:, None]) + bias


def distinct(images: Tensor, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
    """Which boxes to keep, image by image, the likeliest first: of those of a class that overlap the likeliest, and of
    each image `MOST_BOXES` at most. images: (k,) which image each is in; boxes: (k, 4); scores and labels: (k,)."""
    good = torch.nonzero((scores > LEAST_PROBABILITY) & ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(dim=1))[:, 0]
    if not len(good):
        return good
    # Boxes of each class in a field of its own. Image by image, since time grows with the square of the boxes.
    apart, likelihood = boxes[good], scores[good]
    apart = apart + (labels[good] * (1 + apart.amax() - apart.amin()))[:, None]
    ends = torch.bincount(images[good]).cumsum(0).tolist()
    kept = [
        start + nms(apart[start:end], likelihood[start:end], SAME_OBJECT)[:MOST_BOXES]
        for start, end in pairwise([0, *ends])
    ]
    return good[torch.cat(kept)]


def _overlap(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes, pair by pair."""
    both = (
        (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    )
    areas = (a[..., 2:] - a[..., :2]).clamp(min=0).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1)
    return both / (areas - both).clamp(min=1e-6)


def _embed(finest: Tensor, images: Tensor, boxes: Tensor) -> Tensor:
    regions = torch.cat([images[:, None].to(boxes), boxes], dim=1)
    pooled: Tensor = roi_align(finest, regions, POOLED, 1 / REDUCTIONS[0], sampling_ratio=1, aligned=True)
    return functional.normalize(pooled.mean(dim=(2, 3)), dim=1)
