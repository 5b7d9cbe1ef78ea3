"""Training of a segmentation network from some dozens to thousands of images."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from math import ceil, log, prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from backend.learners.backbones import SCRATCH
from backend.learners.replicas import Replicas
from backend.learners.segmentation.network import STRIDE, SegmentationNetwork
from backend.learners.segmentation.rendering import IGNORED, LabelMap
from backend.learners.threads import threads_for

# Training ends early rather than late, so that a round takes about a minute of one core; more views would still gain.
# Most are seen at half the resolution, in a quarter of the time. With 90 labeled street scenes, one run each, 1440
# views in full came to a mean intersection over union of 0.318 in 58 s, 2400 with 60 % halved to 0.336 in 58 s, and
# 3600 with 75 % halved to 0.353 in 71 s.
LEAST_VIEWS = 3000  # of all images together
EPOCHS = 40  # views of each image, at least
COARSE_PART = 0.75  # of the steps, in which images are seen at half the resolution
BATCH = 8
LEARNING_RATE = 4e-3  # at its highest; it rises for a while and falls to 0 along a cosine
PRETRAINED_PART = 0.1  # of the learning rate, for an encoder that has learned before
WARM_UP = 0.15  # share of the steps
DECAY = 0.01
# Ranges from which the views of an image are drawn.
ZOOM = (log(0.7), log(1.6))
STRETCH = (-0.1, 0.1)
SATURATION = (0.6, 1.4)
CONTRAST = (0.7, 1.3)
BRIGHTNESS = (-0.04, 0.04)


def train(
    network: SegmentationNetwork,
    images: Sequence[NDArray[np.uint8]],
    maps: Sequence[LabelMap],
    seed: int,
    on_progress: Callable[[float], None] | None,
) -> None:
    """Fit `network`, on the device that it is on.

    images: (height, width, 3) each, whose sides are multiples of `network.STRIDE`. maps: (height, width) each, the
    number of the value at each pixel, or 255. The same seed gives the same network on a CPU.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = _value_weights(maps, network.last.out_channels)
    full = Counter((len(values), values.shape[1]) for values in maps).most_common(1)[0][0]
    half = (_halved(full[0]), _halved(full[1]))
    steps = ceil(max(LEAST_VIEWS, EPOCHS * len(images)) / BATCH)
    optimiser, schedule = _optimiser(network, steps)
    network.train()
    if network.encoder_name != SCRATCH:
        network.encoder.eval()  # batch statistics of the pretraining are better than those of a few images
    order = torch.empty(0, dtype=torch.long)
    pixels = BATCH * (COARSE_PART * prod(half) + (1 - COARSE_PART) * prod(full))  # of a step, on average
    with threads_for(pixels), Replicas(network) as replicas:
        for step in range(steps):
            while len(order) < BATCH:
                order = torch.cat([order, torch.randperm(len(images), generator=generator)])
            canvas = half if step < COARSE_PART * steps else full
            scale = (prod(canvas) / prod(full)) ** 0.5
            chosen, order = order[:BATCH].tolist(), order[BATCH:]
            views = [_view(network, images[i], maps[i], canvas, scale, generator) for i in chosen]
            replicas.backward(partial(_loss, weights=weights), views)
            optimiser.step()
            schedule.step()
            if on_progress is not None:
                on_progress((step + 1) / steps)
    network.eval()


def _halved(side: int) -> int:
    return max(1, side // 2 // STRIDE) * STRIDE


def _value_weights(maps: Sequence[LabelMap], values: int) -> Tensor:
    """(values,) by which an error counts: the rarer the value, the more, by the root of its share of the pixels."""
    counts = np.zeros(IGNORED + 1)
    for one in maps:
        counts += np.bincount(one.ravel(), minlength=IGNORED + 1)
    shares = torch.tensor(counts[:values] / counts[:values].sum(), dtype=torch.float32)
    weights = (shares + 1e-3).rsqrt()
    return weights / (weights * shares).sum()


def _optimiser(
    network: SegmentationNetwork, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    part = 1.0 if network.encoder_name == SCRATCH else PRETRAINED_PART
    rates = [LEARNING_RATE * part, LEARNING_RATE]
    groups = [
        {"params": list(network.encoder.parameters())},
        {"params": [*network.decoder.parameters(), *network.last.parameters()]},
    ]
    optimiser = torch.optim.AdamW(groups, lr=LEARNING_RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, total_steps=steps, pct_start=WARM_UP)
    return optimiser, schedule


def _loss(network: SegmentationNetwork, views: Sequence[tuple[Tensor, Tensor]], weights: Tensor) -> Tensor:
    """Weighted cross-entropy over the pixels that are not ignored; 0 where all are."""
    device = network.mean.device
    inputs, truth = (torch.stack(parts).to(device) for parts in zip(*views, strict=True))
    logits = functional.interpolate(network(inputs), size=truth.shape[1:], mode="bilinear")
    weights, counted = weights.to(device), truth != IGNORED
    total = functional.cross_entropy(logits, truth, weights, ignore_index=IGNORED, reduction="sum")
    return total / weights[truth[counted]].sum().clamp(min=1)


def _view(
    network: SegmentationNetwork,
    image: NDArray[np.uint8],
    values: LabelMap,
    canvas: tuple[int, int],
    scale: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """An image under other light, mirrored, zoomed and cut to `canvas` (height, width); what is outside is ignored.

    scale: pixels of the canvas for one of the image, before zooming.
    """

    def uniform(low: float, high: float, count: int = 1) -> Tensor:
        return torch.rand(count, generator=generator) * (high - low) + low

    device = network.mean.device
    pixels = torch.from_numpy(image).to(device).permute(2, 0, 1).float().div_(255)
    grey = pixels.mean(dim=0, keepdim=True)
    pixels = grey + (pixels - grey) * uniform(*SATURATION).to(device)
    mean = pixels.mean()
    pixels = (pixels - mean) * uniform(*CONTRAST).to(device) + mean + uniform(*BRIGHTNESS).to(device)

    zoom, stretch = scale * uniform(*ZOOM).exp(), uniform(*STRETCH).exp()
    # Share of the image's width and height that the canvas shows.
    width, height = canvas[1] / values.shape[1] / zoom * stretch, canvas[0] / values.shape[0] / zoom / stretch
    mirrored = torch.randint(2, (1,), generator=generator) * 2 - 1
    x, y = uniform(-1, 1) * (1 - width).abs(), uniform(-1, 1) * (1 - height).abs()
    none = torch.zeros(1)
    affine = torch.stack([torch.cat([width * mirrored, none, x]), torch.cat([none, height, y])])[None].to(
        device
    )
    grid = functional.affine_grid(affine, [1, 3, *canvas], align_corners=False)
    view = functional.grid_sample(network.normalised(pixels[None]), grid, align_corners=False)
    # Numbered so that 0, with which the outside is filled, is what is ignored.
    numbered = torch.from_numpy(values).to(device).float()[None, None] - IGNORED
    truth = functional.grid_sample(numbered, grid, mode="nearest", align_corners=False) + IGNORED
    return view[0], truth[0, 0].round().long()
