"""How many threads of the CPU a step of training is worth."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

# A step is hundreds of small pieces of work, at the end of each of which the threads wait for one another. With fewer
# pixels for each, a second thread wins little time or loses some. Seconds for the same training on two cores, with one
# thread, with two, and with two while another thread of the process keeps helpers: a detector, two images a step, of
# 96 × 128 pixels 3.2, 3.1, 6.6; of 192 × 256 7.4, 6.3, 10.4; of 240 × 320 10.2, 7.0, 12.2. A segmenter, eight images a
# step, of 72 × 96 pixels 3.2, 3.3, 7.2; of 240 × 320 8.1, 6.2, 9.9.
PIXELS_A_THREAD = 64_000


@contextmanager
def threads_for(pixels: float) -> Iterator[None]:
    """Have this thread compute with as many others as pay for steps that look at so many pixels.

    The number changes how sums are rounded, so it hangs on the machine's cores and on nothing that varies.
    """
    most = (
        torch.get_num_threads()
    )  # asked for before they are limited: torch sets a thread's own at its first look
    with threadpool_limits(max(1, min(most, int(pixels / PIXELS_A_THREAD))), user_api="openmp"):
        yield
