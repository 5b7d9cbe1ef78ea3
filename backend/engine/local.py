"""Heavy maps over images in this process: threads load ahead while the caller's thread computes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Generic, Protocol, TypeVar


class Rows(Protocol):
    """Something with a row for each image."""

    def __len__(self) -> int: ...


T = TypeVar("T")
Loaded = TypeVar("Loaded")
R = TypeVar("R", bound=Rows)

# Batches loaded, or being loaded, beside the one in compute. More would cost memory and gain nothing.
BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Batch(Generic[T, R]):
    """One computed batch."""

    items: list[T]
    """What was computed, in the order it came in."""
    outputs: R | None
    """A row for each of `items`; None where the whole batch is broken."""
    broken: list[tuple[T, str]]
    """What could not be loaded, each with the sentence that says why."""


def map_images(
    items: Iterable[T],
    load: Callable[[T], Loaded],
    compute: Callable[[Sequence[Loaded]], R],
    *,
    batch_size: int = 64,
    loaders: int = 4,
    failures: tuple[type[Exception], ...],
) -> Iterator[Batch[T, R]]:
    """Load (fetch, decode, resize) every item's image and compute on them batch by batch.

    `load` runs in `loaders` threads, `compute` in the caller's. At most `BATCHES_AHEAD` + 1 batches of
    images are in memory, however slow the caller is. An exception of the types `failures` raised by `load`
    costs that one item; any other propagates. Closing the iterator, or leaving it by an exception, stops the
    threads: loads not yet begun are dropped and the few under way are waited for.
    """
    remaining = iter(items)
    loading: deque[tuple[T, Future[Loaded]]] = deque()
    pool = ThreadPoolExecutor(loaders, thread_name_prefix="load-image")

    def load_ahead() -> None:
        for item in islice(remaining, BATCHES_AHEAD * batch_size - len(loading)):
            loading.append((item, pool.submit(load, item)))

    try:
        load_ahead()
        while loading:
            done: list[T] = []
            broken: list[tuple[T, str]] = []
            images: list[Loaded] = []
            for _ in range(min(batch_size, len(loading))):
                item, future = loading.popleft()
                try:
                    images.append(future.result())
                    done.append(item)
                except failures as error:
                    broken.append((item, str(error) or type(error).__name__))
            load_ahead()
            yield Batch(done, _computed(images, compute) if images else None, broken)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _computed(images: Sequence[Loaded], compute: Callable[[Sequence[Loaded]], R]) -> R:
    outputs = compute(images)
    if len(outputs) != len(images):
        raise ValueError(f"compute returned {len(outputs)} rows for {len(images)} images")
    return outputs
