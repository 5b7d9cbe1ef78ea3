"""Heavy maps over images on a Ray cluster: Ray Data streams the items to actors, which load and compute.

An actor that is lost, with its machine or alone, is started anew and its block is mapped again: each item comes back
once.
"""

import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from backend.engine.local import map_images as map_images_here
from backend.engine.work import Batch, Loaded, R, T, Work

REACH_SECONDS = 5.0
BLOCK = 256  # items that travel together; what is lost with an actor

_connecting = threading.Lock()


class ClusterUnavailable(Exception):
    """Ray cannot be used. Nothing is lost: what failed is tried again."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"The Ray cluster {address} cannot be used ({reason}). No label is lost, and work goes on by itself when "
            "it answers again; if it does not, check RAY_ADDRESS and RAY_AUTH_TOKEN, and that the cluster runs the "
            "same versions of Python and Ray. Without RAY_ADDRESS, the worker does the work itself."
        )


def map_images(
    items: Iterable[T],
    make: Callable[[], Work[T, Loaded, R]],
    *,
    address: str,
    batch_size: int = 64,
    loaders: int = 4,
    actors: int | None = None,
) -> Iterator[Batch[T, R]]:
    """Do the work on every item's image, in actors; the batches come in the order of the items.

    Args:
        items: few enough to be held in memory.
        make: called once in each actor, so it is what must be picklable; connections and models are made there.
        address: host and port of the cluster; "auto", one on this machine; "local", one started for the purpose.
        batch_size: images computed together.
        loaders: threads in each actor that load.
        actors: the most; None: one for each GPU, or where there is none for each CPU.

    Raises ClusterUnavailable, and what the work raises as it raises it here.
    """
    ray = _connected(address)
    from ray.data import ActorPoolStrategy, DataContext, from_items

    logging.getLogger("ray.data").setLevel(logging.WARNING)  # its own handler tells of each map
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    every = list(items)
    blocks = [{"block": _Block(every[start : start + BLOCK])} for start in range(0, len(every), BLOCK)]
    if not blocks:
        return
    mapped = from_items(blocks, override_num_blocks=len(blocks)).map_batches(
        _Actor,
        fn_constructor_args=(make, batch_size, loaders),
        batch_size=1,
        compute=ActorPoolStrategy(
            min_size=1, max_size=min(len(blocks), actors or gpus or int(resources.get("CPU", 1)))
        ),
        num_gpus=1 if gpus else 0,
        num_cpus=1,
    )
    try:
        for row in mapped.iter_rows():
            if isinstance(row["done"], Exception):
                raise row["done"]
            yield from row["done"]
    except ray.exceptions.RayError as error:
        raise ClusterUnavailable(address, _first_line(error)) from error


def reach(address: str) -> None:
    """Raise ClusterUnavailable where Ray is not installed or nobody listens; Ray itself tries for minutes."""
    if find_spec("ray") is None:
        raise ClusterUnavailable(
            address, "Ray is not installed: pip install 'label-studio-active-learning[ray]'"
        )
    host, _, port = address.rpartition(":")
    if port.isdigit():
        try:
            socket.create_connection((host.rpartition("/")[2], int(port)), REACH_SECONDS).close()
        except OSError as error:
            raise ClusterUnavailable(address, _first_line(error)) from error


def _connected(address: str) -> Any:
    """The module, connected to the cluster."""
    reach(address)
    import ray

    with _connecting:
        if not ray.is_initialized():
            try:
                ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
            except (OSError, RuntimeError, ValueError) as error:
                raise ClusterUnavailable(address, _first_line(error)) from error
    return ray


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


@dataclass(frozen=True)
class _Block:
    """Keeps Ray from making arrays of the items."""

    items: list[Any]


class _Actor:
    """Holds the model, and maps a block at a time."""

    def __init__(self, make: Callable[[], Work[Any, Any, Any]], batch_size: int, loaders: int) -> None:
        self._make, self._batch_size, self._loaders = make, batch_size, loaders
        self._work: Work[Any, Any, Any] | None = None

    def __call__(self, blocks: dict[str, Any]) -> dict[str, Any]:
        done = np.empty(len(blocks["block"]), object)
        for place, block in enumerate(blocks["block"]):
            try:
                done[place] = self._map(block.items)
            except Exception as error:  # as a value: Ray would hand on its text alone
                done[place] = error
        return {"done": done}

    def _map(self, items: list[Any]) -> list[Batch[Any, Any]]:
        self._work = self._work or self._make()
        return list(map_images_here(items, self._work, batch_size=self._batch_size, loaders=self._loaders))
