"""How embedding a pool scales on a Ray of this machine: one worker against two, and against the worker itself.

    .venv/bin/python benchmarks/engine.py [--images 6000] [--workers 2]

Draws photographs of 640 × 480 pixels as JPEG files, and has them decoded, resized and embedded by the network that is
the default on a CPU, with random weights (no difference to its speed). A worker is an actor with one CPU, as in
production. What is compared is images a second over the second half of the pool, when all workers have long started;
the seconds until the first batch are told beside it. Exit code 1 where two workers are less than 1.8 times as fast as
one.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from backend.engine import local
from backend.engine.ray import map_images
from backend.engine.work import Batch, Work
from backend.learners.embedding import CPU_BACKBONE
from backend.learners.pixels import squares

SIDE = 224  # pixels
DIFFERENT = 64  # images; each is there many times
GOAL = 1.8

Item = tuple[int, str]
Batches = Iterator[Batch[Item, NDArray[np.float32]]]


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=6_000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        paths = photographs(Path(name))
        pool = [(i, paths[i % len(paths)]) for i in range(options.images)]
        speeds: dict[str, tuple[float, float]] = {}
        for threads in (1, options.workers):
            torch.set_num_threads(threads)
            speeds[f"this process, {threads} torch threads"] = timed(
                local.map_images(pool, embedding()), pool
            )
        ray.init(num_cpus=options.workers, include_dashboard=False, log_to_driver=False)
        for workers in (1, options.workers):
            batches = map_images(pool, embedding, address="auto", actors=workers)
            speeds[f"Ray, {workers} workers"] = timed(batches, pool)
        ray.shutdown()
    table = Table("where", "first batch after, s", "images a second", "of one worker")
    one = speeds["Ray, 1 workers"][1]
    for where, (first, speed) in speeds.items():
        table.add_row(where, f"{first:.1f}", f"{speed:.0f}", f"{speed / one:.2f}")
    Console(width=100).print(table)
    sys.exit(speeds[f"Ray, {options.workers} workers"][1] < GOAL * one)


def photographs(folder: Path) -> list[str]:
    """Blurred noise, as JPEG files."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(DIFFERENT):
        noise = Image.fromarray(rng.integers(256, size=(60, 80, 3), dtype=np.uint8))
        paths.append(str(folder / f"{i}.jpg"))
        noise.resize((640, 480), Image.Resampling.BICUBIC).save(paths[-1], quality=90)
    return paths


def embedding() -> Work[Item, Image.Image, NDArray[np.float32]]:
    """Decode and embed."""
    import timm

    network = timm.create_model(CPU_BACKBONE, pretrained=False, num_classes=0).eval()

    def load(item: Item) -> Image.Image:
        with Image.open(item[1]) as image:
            image.draft("RGB", (SIDE, SIDE))
            return image.convert("RGB")

    def compute(images: Sequence[Image.Image]) -> NDArray[np.float32]:
        with torch.inference_mode():
            vectors: NDArray[np.float32] = network(squares(images, SIDE)).numpy()
            return vectors

    return Work(load, compute, (OSError,))


def timed(batches: Batches, pool: Sequence[Item]) -> tuple[float, float]:
    """Seconds until the first batch, and images a second over the second half."""
    started = time.perf_counter()
    first = half = 0.0
    done = done_by_half = 0
    for batch in batches:
        done += len(batch.items)
        first = first or time.perf_counter() - started
        if not half and done * 2 >= len(pool):
            half, done_by_half = time.perf_counter(), done
    assert done == len(pool), "each image comes back once"
    return first, (done - done_by_half) / (time.perf_counter() - half)


if __name__ == "__main__":
    main()
