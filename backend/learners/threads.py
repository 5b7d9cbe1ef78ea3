"""How many threads of the CPU a step of training is worth."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

# A step is hundreds of small pieces of work, at the end of each of which the threads wait for one another. With fewer
# pixels for each, a second thread wins little time or loses some. Training a detector on two cores, two images a step,
# took two threads 1.14 times as long as one for images of 96 × 128 pixels, 0.85 for 192 × 256 and 0.65 for 288 × 384;
# and 2.3, 2.1 and 1.1 times while another thread of the process kept helpers (benchmarks/training.py).
PIXELS_A_THREAD = 64_000


@contextmanager
def threads_for(pixels: float) -> Iterator[None]:
    """Have this thread compute with as many others as pay for steps that look at so many pixels.

    The number changes how sums are rounded, so it follows from the pixels and the machine's cores alone.
    """
    # Before they are limited: torch sets a thread's own number when it is first asked for.
    most = torch.get_num_threads()
    with threadpool_limits(max(1, min(most, int(pixels / PIXELS_A_THREAD))), user_api="openmp"):
        yield
