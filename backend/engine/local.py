"""Heavy maps over images in this process: threads load ahead while the caller's thread computes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

T = TypeVar("T")

# Batches loaded, or being loaded, beside the one in compute. More would cost memory and gain nothing.
BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Batch(Generic[T]):
    """One computed batch."""

    items: list[T]
    """What was computed, in the order it came in."""
    outputs: NDArray[np.float32]
    """A row for each of `items`; shape (0, 0) where the whole batch is broken."""
    broken: list[tuple[T, str]]
    """What could not be loaded, each with the sentence that says why."""


def map_images(
    items: Iterable[T],
    load: Callable[[T], Image],
    compute: Callable[[Sequence[Image]], NDArray[Any]],
    *,
    batch_size: int = 64,
    loaders: int = 4,
    failures: tuple[type[Exception], ...],
) -> Iterator[Batch[T]]:
    """Load (fetch and decode) every item's image and compute on them batch by batch.

    `load` runs in `loaders` threads, `compute` in the caller's. At most `BATCHES_AHEAD` + 1 batches of
    images are in memory, however slow the caller is. An exception of the types `failures` raised by `load`
    costs that one item; any other propagates. Closing the iterator, or leaving it by an exception, stops the
    threads: loads not yet begun are dropped and the few under way are waited for.
    """
    remaining = iter(items)
    loading: deque[tuple[T, Future[Image]]] = deque()
    pool = ThreadPoolExecutor(loaders, thread_name_prefix="load-image")

    def load_ahead() -> None:
        for item in islice(remaining, BATCHES_AHEAD * batch_size - len(loading)):
            loading.append((item, pool.submit(load, item)))

    try:
        load_ahead()
        while loading:
            batch: Batch[T] = Batch([], np.empty((0, 0), np.float32), [])
            images: list[Image] = []
            for _ in range(min(batch_size, len(loading))):
                item, future = loading.popleft()
                try:
                    images.append(future.result())
                    batch.items.append(item)
                except failures as error:
                    batch.broken.append((item, str(error) or type(error).__name__))
            load_ahead()
            yield _computed(batch, images, compute) if images else batch
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _computed(
    batch: Batch[T], images: Sequence[Image], compute: Callable[[Sequence[Image]], NDArray[Any]]
) -> Batch[T]:
    outputs = np.asarray(compute(images), np.float32)
    if len(outputs) != len(images):
        raise ValueError(f"compute returned {len(outputs)} rows for {len(images)} images")
    return Batch(batch.items, outputs, batch.broken)
