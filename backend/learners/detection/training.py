"""How a detector learns: few steps of few images, in random views of them."""

from collections.abc import Callable, Iterator, Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from backend.learners.detection.images import GREY, STEP, prepare
from backend.learners.detection.network import Network
from backend.learners.learner import LabeledImages
from backend.learners.replicas import Replicas
from backend.learners.threads import threads_for

# How often training looks at images, in all: often enough to learn anything, and oftener the more there is to learn.
# Of blood cells, 200 images in 1,200 views taught hardly more than 20 in 840. One view of 96 × 128 pixels takes a core
# some 30 ms, one of 240 × 320 some 85.
VIEWS, VIEWS_AN_IMAGE, MOST_VIEWS = 600, 8, 6000
BATCH = 2  # of the same views, four at a time learn less in half the steps, and one at a time no more
LEARNING_RATE = 2e-3
PRETRAINED_PART = 0.1  # of the learning rate, for what has learnt before
WARM_UP = 0.2  # share of the steps
WEIGHT_DECAY = 0.05
LONGEST_GRADIENT = 10.0
ZOOM = 1.4  # by how much at most images are shrunk or enlarged
LIGHT = 0.3  # by how much brightness and contrast vary
KEPT_IMAGES = 2000  # in memory
MEASURED_IMAGES = 200  # for the size of their objects

# The longer side of an image is chosen so that objects of the class of the smallest have about so many pixels a side.
OBJECT_SIDE = 16
LEAST_SIDE, LARGEST_SIDE = 128, 320
LARGEST_SIDE_ON_GPU = 800


def longest_side(images: LabeledImages, classes: Sequence[str]) -> int:
    """Pixels, a multiple of `STEP`, that the longer side of an image is to have for its objects to be found."""
    sides: dict[str, list[float]] = {name: [] for name in classes}
    for position, target in enumerate(images.targets[:MEASURED_IMAGES]):
        if target.boxes:
            width, height = images.load(position).size
            for box in target.boxes:
                if box.label in sides:
                    area = (box.right - box.left) * width * (box.bottom - box.top) * height
                    sides[box.label].append(area**0.5 / max(width, height))
    smallest = min((float(np.median(shares)) for shares in sides.values() if shares), default=1.0)
    largest = LARGEST_SIDE_ON_GPU if torch.cuda.is_available() else LARGEST_SIDE
    wanted = OBJECT_SIDE / max(smallest, 1e-6)
    return int(np.clip(round(wanted / STEP) * STEP, LEAST_SIDE, largest))


def train(
    network: Network,
    images: LabeledImages,
    classes: Sequence[str],
    side: int,
    on_progress: Callable[[float], None] | None,
) -> None:
    """Fit the network to images of this longer side. Draws from torch's generator."""
    views = min(VIEWS + VIEWS_AN_IMAGE * len(images), MOST_VIEWS)
    steps = views // BATCH
    examples = _Examples(images, classes, side)
    optimiser, schedule = _optimiser(network, steps)
    network.train()
    positions = _shuffled(len(images))
    with threads_for(BATCH * prod(examples.canvas)), Replicas(network) as replicas:
        for step in range(steps):
            replicas.backward(_loss, [examples.view(next(positions)) for _ in range(BATCH)])
            torch.nn.utils.clip_grad_norm_(network.parameters(), LONGEST_GRADIENT)
            optimiser.step()
            schedule.step()
            if on_progress:
                on_progress((step + 1) / steps)
    network.eval()


def _optimiser(
    network: Network, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    known = network.pretrained()
    there = set(known)  # by identity, and without an order
    groups = [{"params": [one for one in network.parameters() if one not in there]}, {"params": known}]
    rates = [LEARNING_RATE, LEARNING_RATE * PRETRAINED_PART]
    optimiser = torch.optim.AdamW(groups, LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, total_steps=steps, pct_start=WARM_UP)
    return optimiser, schedule


def _loss(network: Network, views: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    device = next(network.parameters()).device
    pixels = torch.stack([view for view, _, _ in views]).to(device, memory_format=torch.channels_last)
    boxes, labels = ([view[part].to(device) for view in views] for part in (1, 2))
    return network.loss(pixels, boxes, labels)


def _shuffled(count: int) -> Iterator[int]:
    """Positions in random order, again and again."""
    while True:
        yield from torch.randperm(count).tolist()


class _Examples:
    """Labeled images in random views that all have the same canvas."""

    def __init__(self, images: LabeledImages, classes: Sequence[str], side: int) -> None:
        self.images = images
        self.side = side
        self.places = {name: place for place, name in enumerate(classes)}
        self.kept: dict[int, Tensor] = {}
        shapes = [self._pixels(position).shape[1:] for position in range(min(len(images), MEASURED_IMAGES))]
        self.canvas = [max(STEP, round(float(side) / STEP) * STEP) for side in np.median(shapes, axis=0)]
        self.transform = v2.Compose(
            [
                v2.RandomHorizontalFlip(),
                v2.ScaleJitter((side, side), (1 / ZOOM, ZOOM), antialias=True),
                v2.RandomCrop(self.canvas, pad_if_needed=True, fill=GREY),
                v2.SanitizeBoundingBoxes(min_size=1),
                v2.ColorJitter(LIGHT, LIGHT),
            ]
        )

    def view(self, position: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels (3, height, width), boxes (k, 4) in pixels and the places of their classes (k,)."""
        pixels = self._pixels(position)
        height, width = pixels.shape[1:]
        boxes = [box for box in self.images.targets[position].boxes if box.label in self.places]
        corners = torch.tensor([[box.left, box.top, box.right, box.bottom] for box in boxes]).reshape(-1, 4)
        corners = corners * torch.tensor([width, height, width, height])
        labels = torch.tensor([self.places[box.label] for box in boxes], dtype=torch.int64)
        target = {
            "boxes": tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=(height, width)),
            "labels": labels,
        }
        view, target = self.transform(tv_tensors.Image(pixels), target)
        return view.as_subclass(Tensor), target["boxes"].as_subclass(Tensor).float(), target["labels"]

    def _pixels(self, position: int) -> Tensor:
        if position in self.kept:
            return self.kept[position]
        pixels = torch.from_numpy(prepare(self.images.load(position), self.side).pixels.copy()).permute(
            2, 0, 1
        )
        if len(self.kept) < KEPT_IMAGES:
            self.kept[position] = pixels
        return pixels
