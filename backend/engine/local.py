"""Heavy maps over images in this process: threads load ahead while the caller's thread computes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from backend.engine.work import Batch, Loaded, R, T, Work

# Batches loaded, or being loaded, beside the one in compute. More would cost memory and gain nothing.
BATCHES_AHEAD = 2


def map_images(
    items: Iterable[T], work: Work[T, Loaded, R], *, batch_size: int = 64, loaders: int = 4
) -> Iterator[Batch[T, R]]:
    """Do the work on every item's image; the batches come in the order of the items.

    `work.load` runs in `loaders` threads, `work.compute` in the caller's. At most `BATCHES_AHEAD` + 1 batches of
    images are in memory, however slow the caller is. Closing the iterator, or leaving it by an exception, stops the
    threads: loads not yet begun are dropped and the few under way are waited for.
    """
    remaining = iter(items)
    loading: deque[tuple[T, Future[Loaded]]] = deque()
    pool = ThreadPoolExecutor(loaders, thread_name_prefix="load-image")

    def load_ahead() -> None:
        for item in islice(remaining, BATCHES_AHEAD * batch_size - len(loading)):
            loading.append((item, pool.submit(work.load, item)))

    try:
        load_ahead()
        while loading:
            done: list[T] = []
            broken: list[tuple[T, Exception]] = []
            images: list[Loaded] = []
            for _ in range(min(batch_size, len(loading))):
                item, future = loading.popleft()
                try:
                    images.append(future.result())
                    done.append(item)
                except work.failures as error:
                    broken.append((item, error))
            load_ahead()
            yield Batch(done, _computed(images, work.compute) if images else None, broken)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _computed(images: Sequence[Loaded], compute: Callable[[Sequence[Loaded]], R]) -> R:
    outputs = compute(images)
    if len(outputs) != len(images):
        raise ValueError(f"compute returned {len(outputs)} rows for {len(images)} images")
    return outputs
