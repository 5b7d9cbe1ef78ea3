"""Answers to Label Studio about one image at a time, on the CPU, by the number of threads that a network computes with.

    .venv/bin/python benchmarks/answering.py [--looks 30]

As in a web process: each of its threads has looked at an image before, and so keeps OpenMP's helpers. The networks have
random weights, which makes no difference to their speed. All are timed in turn in one run; compare the ratios.
"""

import argparse
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from math import inf
from unittest.mock import patch

import timm
import torch
from rich.console import Console
from rich.table import Table

from backend.gunicorn_worker import THREADS
from backend.learners import threads
from backend.learners.backbones import SCRATCH
from backend.learners.segmentation.network import SegmentationNetwork
from backend.learners.threads import PIXELS_A_THREAD, threads_for

SEGMENTER = "segmenter"
NETWORKS = (
    ("mobilenetv4_conv_small", 224),
    ("resnet50", 224),
    ("vit_small_patch16_224", 224),
    ("resnet50", 448),
    (SEGMENTER, 128),
    (SEGMENTER, 384),
)
AT_ONCE = (1, 4)


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--looks", type=int, default=30)
    options = parser.parse_args()
    table = Table("network", "at once", f"{torch.get_num_threads()} threads", "one thread", "as chosen")
    for (name, side), at_once in product(NETWORKS, AT_ONCE):
        look = looker(name, side)
        every, one, chosen = (
            seconds(look, at_once, options.looks, pixels) for pixels in (1, inf, PIXELS_A_THREAD)
        )
        row = f"{every * 1000:.0f} ms", f"{one / every:.2f}", f"{chosen / every:.2f}"
        table.add_row(f"{name}, {side} × {side}", str(at_once), *row)
    Console().print(table)


def looker(name: str, side: int) -> Callable[[], None]:
    """Looks at an image of noise, as embedders, detectors and segmenters do."""
    network: torch.nn.Module = (
        SegmentationNetwork(SCRATCH, 3)
        if name == SEGMENTER
        else timm.create_model(name, num_classes=0, pretrained=False)
    )
    network.eval()
    pixels = torch.rand(1, 3, side, side)

    def look() -> None:
        with torch.inference_mode(), threads_for(side**2):
            network(pixels)

    return look


def seconds(look: Callable[[], None], at_once: int, looks: int, pixels_a_thread: float) -> float:
    """The median of a look. pixels_a_thread: infinite for one thread, 1 for all."""
    all_there, turn = threading.Barrier(THREADS), threading.Semaphore(at_once)

    def first() -> None:
        all_there.wait()
        look()

    def timed(_: int) -> float:
        with turn:
            begun = time.perf_counter()
            look()
            return time.perf_counter() - begun

    with patch.object(threads, "PIXELS_A_THREAD", pixels_a_thread), ThreadPoolExecutor(THREADS) as pool:
        for answered in [pool.submit(first) for _ in range(THREADS)]:
            answered.result()
        return sorted(pool.map(timed, range(looks)))[looks // 2]


if __name__ == "__main__":
    main()
