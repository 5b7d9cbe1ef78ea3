"""Heavy maps over images on a Ray cluster: Ray Data streams the items to actors, which load and compute.

An actor that is lost, with its machine or alone, is started anew and its block is mapped again: each item comes back
once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np

from backend.engine.local import Batch, Loaded, R, T
from backend.engine.local import map_images as map_images_here

BLOCK = 256  # items that travel together; what is lost with an actor
LOCAL = "local"  # the address of a Ray of this machine alone, started for the purpose


@dataclass(frozen=True)
class Work(Generic[T, Loaded, R]):
    """What an actor does with items: see `engine.local.map_images`."""

    load: Callable[[T], Loaded]
    compute: Callable[[Sequence[Loaded]], R]
    failures: tuple[type[Exception], ...]


def map_images(
    items: Iterable[T],
    make: Callable[[], Work[T, Any, R]],
    *,
    address: str,
    batch_size: int = 64,
    loaders: int = 4,
    workers: int | None = None,
) -> Iterator[Batch[T, R]]:
    """Load and compute on every item's image, in actors; the batches come as they are done, in any order.

    make: called once in each actor, so it is what must be picklable; connections and models are made there. workers:
    the most actors; None: one for each GPU, or where there are none for each two CPUs. address: of the cluster, "auto",
    or "local". Blocks that wait are bounded by Ray's own limits on memory.
    """
    import ray
    import ray.data

    if not ray.is_initialized():
        ray.init(address=None if address == LOCAL else address, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    most = workers or gpus or max(1, int(resources.get("CPU", 1)) // 2)
    every = list(items)
    blocks = [{"block": _Block(every[start : start + BLOCK])} for start in range(0, len(every), BLOCK)]
    if not blocks:
        return
    mapped = ray.data.from_items(blocks, override_num_blocks=len(blocks)).map_batches(
        _Actor,
        fn_constructor_args=(make, batch_size, loaders),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most),
        num_gpus=1 if gpus else 0,
        num_cpus=1,
    )
    for row in mapped.iter_rows():
        yield from row["batches"]


@dataclass(frozen=True)
class _Block:
    """Keeps Ray from making arrays of the items."""

    items: list[Any]


class _Actor:
    """Holds the model, and maps a block at a time."""

    def __init__(self, make: Callable[[], Work[Any, Any, Any]], batch_size: int, loaders: int) -> None:
        self._work, self._batch_size, self._loaders = make(), batch_size, loaders

    def __call__(self, blocks: dict[str, Any]) -> dict[str, Any]:
        done = np.empty(len(blocks["block"]), object)
        for place, block in enumerate(blocks["block"]):
            batches = map_images_here(
                block.items,
                self._work.load,
                self._work.compute,
                batch_size=self._batch_size,
                loaders=self._loaders,
                failures=self._work.failures,
            )
            done[place] = list(batches)
        return {"batches": done}
