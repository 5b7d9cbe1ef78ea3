"""How many threads of the CPU a step of training, or a look at images, is worth."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from threadpoolctl import ThreadpoolController

# A step is hundreds of small pieces of work, at the end of each of which the threads wait for one another. With fewer
# pixels for each, a second thread wins little time or loses some. Training a detector on two cores, two images a step,
# took two threads 1.14 times as long as one for images of 96 × 128 pixels, 0.85 for 192 × 256 and 0.65 for 288 × 384;
# and 2.3, 2.1 and 1.1 times while another thread of the process kept helpers (benchmarks/training.py). Threads that
# answer Label Studio have each kept helpers since their first look at an image.
PIXELS_A_THREAD = 64_000


@contextmanager
def threads_for(pixels: float) -> Iterator[None]:
    """Have this thread compute with as many others as pay for so many pixels at once.

    The number changes how sums are rounded, so it follows from the pixels and the machine's cores alone.
    """
    # Before they are limited: torch sets a thread's own number when it is first asked for.
    most = torch.get_num_threads()
    with _openmp().limit(limits=max(1, min(most, int(pixels / PIXELS_A_THREAD)))):
        yield


@cache
def _openmp() -> ThreadpoolController:
    """The libraries of this process, looked for once: that takes as long as a small network's look at an image."""
    return ThreadpoolController().select(user_api="openmp")
