"""How fast learners look at images for their scores, beside the bare network's forward pass on the same batch.

    .venv/bin/python benchmarks/scoring.py [--batch 8] [--repeats 60] [--threads 1]

The networks have random weights, which makes no difference to their speed. Both sides are timed in turn in one run;
compare the ratios.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from torchvision.models.detection.image_list import ImageList

from backend.learners.backbones import empty_pyramid
from backend.learners.detection import Detector
from backend.learners.detection.detector import NETWORKS
from backend.learners.detection.images import stack
from backend.learners.detection.one_stage import OneStage
from backend.learners.embedding import CPU_BACKBONE
from backend.learners.kinds import DetectorKind
from backend.learners.segmentation.network import CHANNELS, SCRATCH, SegmentationNetwork
from backend.learners.segmentation.segmenter import CPU_SIDE, GPU_SIDE, Segmenter

Side = Callable[[], object]

CLASSES = 11
MEMBERS = 8
DETECTION_SIDE = 256


def main() -> None:
    """Run the benchmark and print a line for each learner."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    images = photographs(options.batch)
    for name, (bare, scoring) in (
        {
            f"detection, {kind}, {backbone}": detection(kind, backbone, images)
            for kind in NETWORKS
            for backbone in (SCRATCH, CPU_BACKBONE)
        }
        | {f"segmentation, {encoder}": segmentation(encoder, images) for encoder in (SCRATCH, CPU_BACKBONE)}
    ).items():
        print(f"{name}: {compared(bare, scoring, options.batch, options.repeats)}")


def photographs(count: int) -> list[Image.Image]:
    """Blurred noise, in which a network finds regions, of 640 × 480 pixels."""
    rng = np.random.default_rng(0)
    noise = rng.integers(256, size=(count, 12, 16, 3), dtype=np.uint8)
    return [Image.fromarray(one).resize((640, 480), Image.Resampling.BICUBIC) for one in noise]


def detection(kind: DetectorKind, backbone: str, images: list[Image.Image]) -> tuple[Side, Side]:
    """The network up to what it says of every place, or torchvision's boxes of two stages; and a detector's answers.

    Of random weights, as many places as can be are candidates, which makes the most work for scoring.
    """
    network = NETWORKS[kind](empty_pyramid(backbone), torch.ones(CLASSES), MEMBERS)
    detector = Detector(tuple(map(str, range(CLASSES))), kind, network, DETECTION_SIDE)
    prepared = [detector.prepare(image) for image in images]
    device = next(network.parameters()).device
    pixels = torch.from_numpy(stack(prepared)).permute(0, 3, 1, 2).to(device).float()

    def bare() -> None:
        with torch.inference_mode():
            maps = network.pyramid(pixels)
            if isinstance(network, OneStage):
                network.fcos.head(list(maps.values()))
            else:
                canvas = ImageList(pixels, [(pixels.shape[2], pixels.shape[3])] * len(pixels))
                network.regions(maps, network.proposals(canvas, maps)[0], canvas.image_sizes)

    return bare, lambda: detector.answers(prepared)


def segmentation(encoder: str, images: list[Image.Image]) -> tuple[Side, Side]:
    """The network, its logits brought to the images' size; and a segmenter's answers."""
    side = GPU_SIDE if torch.cuda.is_available() else CPU_SIDE
    network = SegmentationNetwork(encoder, 1 + CLASSES)
    segmenter = Segmenter(tuple(map(str, range(CLASSES))), True, network, torch.ones(MEMBERS, CHANNELS), side)
    prepared = [segmenter.prepare(image) for image in images]
    pixels = (
        torch.from_numpy(np.stack([one.pixels for one in prepared])).permute(0, 3, 1, 2).contiguous() / 255
    )
    inputs = network.normalised(pixels.to(network.mean.device))

    def bare() -> None:
        with torch.inference_mode():
            functional.interpolate(network(inputs), scale_factor=4, mode="bilinear").cpu()

    return bare, lambda: segmenter.answers(prepared)


def compared(bare: Side, scoring: Side, batch: int, repeats: int) -> str:
    """Images a second of both, and scoring's share of the bare network's."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats + 1):
        for side, times in zip((bare, scoring), seconds, strict=True):
            start = time.perf_counter()
            side()
            times.append(time.perf_counter() - start)
    least, ours = (statistics.median(times[1:]) for times in seconds)  # the first is for warming up
    return f"{batch / ours:.0f} images/s, {least / ours:.0%} of the bare network's {batch / least:.0f}"


if __name__ == "__main__":
    main()
