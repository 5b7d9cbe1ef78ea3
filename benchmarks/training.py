"""Training on the CPU by the number of threads: seconds beside those of one thread, and what the product chooses.

    .venv/bin/python benchmarks/training.py [--steps 60]

"Beside helpers" is training with all threads while another thread of the process keeps OpenMP's helpers, as it does for
as long as it lives, once it has computed. The networks are trained from scratch, which makes no difference to their
speed. All are timed in turn in one run; compare the ratios.
"""

import argparse
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from math import inf
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from backend.learners import threads
from backend.learners.backbones import SCRATCH, empty_pyramid
from backend.learners.detection import training as detection
from backend.learners.detection.one_stage import OneStage
from backend.learners.learner import LabeledImages
from backend.learners.segmentation import training as segmentation
from backend.learners.segmentation.network import SegmentationNetwork
from backend.learners.threads import PIXELS_A_THREAD
from backend.targets import Box, BoxTarget

IMAGES, CLASSES = 12, 3
SIDES = (128, 256, 384)  # of the longer side; the other has three quarters of it


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    table = Table(
        "training", "one thread", f"{torch.get_num_threads()} threads", "beside helpers", "as chosen"
    )
    for kind in (detect, segment):
        for side in SIDES:
            train = kind(side, options.steps)
            one = seconds(train, inf)
            others = [seconds(train, 1), seconds(train, 1, helpers()), seconds(train, beside=helpers())]
            ratios = [f"{taken / one:.2f}" for taken in others]
            table.add_row(f"{kind.__name__}, {side * 3 // 4} × {side}", f"{one:.1f} s", *ratios)
    Console().print(table)


def detect(side: int, steps: int) -> Callable[[], None]:
    """Trains a detector on noise."""
    noise = np.random.default_rng(0).integers(256, size=(IMAGES, side * 3 // 4, side, 3), dtype=np.uint8)
    boxes = [BoxTarget((Box("0", 0.1, 0.1, 0.3, 0.3), Box("1", 0.5, 0.5, 0.9, 0.9)))] * IMAGES
    images = LabeledImages(lambda position: Image.fromarray(noise[position]), boxes)
    network = OneStage(empty_pyramid(SCRATCH), torch.ones(CLASSES), 1)

    def train() -> None:
        with patch.multiple(detection, VIEWS=steps * detection.BATCH, VIEWS_AN_IMAGE=0):
            detection.train(network, images, ("0", "1", "2"), side, None)

    return train


def segment(side: int, steps: int) -> Callable[[], None]:
    """Trains a segmenter on noise."""
    rng = np.random.default_rng(0)
    images = list(rng.integers(256, size=(IMAGES, side * 3 // 4, side, 3), dtype=np.uint8))
    maps = list(rng.integers(CLASSES, size=(IMAGES, side * 3 // 4, side), dtype=np.uint8))
    network = SegmentationNetwork(SCRATCH, CLASSES)

    def train() -> None:
        with patch.multiple(segmentation, LEAST_VIEWS=steps * segmentation.BATCH, EPOCHS=0):
            segmentation.train(network, images, maps, 0, None)

    return train


@contextmanager
def helpers() -> Iterator[None]:
    """Another thread, which has computed and lives on."""
    computed, enough = threading.Event(), threading.Event()

    def keep() -> None:
        torch.ones(1_000_000).sin_()
        computed.set()
        enough.wait()

    thread = threading.Thread(target=keep)
    thread.start()
    computed.wait()
    try:
        yield
    finally:
        enough.set()
        thread.join()


def seconds(
    train: Callable[[], None],
    pixels_a_thread: float = PIXELS_A_THREAD,
    beside: AbstractContextManager[None] | None = None,
) -> float:
    """Of a training in a thread of its own, as a worker's are. pixels_a_thread: infinite for one thread, 1 for all."""

    def run() -> float:
        begun = time.perf_counter()
        train()
        return time.perf_counter() - begun

    with (
        patch.object(threads, "PIXELS_A_THREAD", pixels_a_thread),
        beside or nullcontext(),
        ThreadPoolExecutor(1) as own,
    ):
        return own.submit(run).result()


if __name__ == "__main__":
    main()
