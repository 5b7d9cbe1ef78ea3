"""A network's gradients, computed on every GPU that this process sees.

Each GPU has a replica of the network and is given a part of every batch, in a thread, as PyTorch's DataParallel does
it. A process for each GPU would have to be sent all images, and would take longer to start than many a round to train.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from itertools import repeat
from types import TracebackType
from typing import Generic, Self, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)
Example = TypeVar("Example")


def training_devices() -> list[torch.device]:
    """All GPUs, or the CPU where there is none. The environment variable CUDA_VISIBLE_DEVICES leaves some out."""
    return [torch.device("cuda", place) for place in range(torch.cuda.device_count())] or [
        torch.device("cpu")
    ]


class Replicas(Generic[Network]):
    """A network and its replicas on the other devices. A context manager, for their threads.

    network: on the first of the devices, in training. Its own are the parameters that an optimiser changes; statistics
    that layers gather while they learn are those of its part of the batches.
    """

    def __init__(self, network: Network) -> None:
        others = [deepcopy(network).to(device) for device in training_devices()[1:]]
        self._networks = [network, *others]
        self._threads = ThreadPoolExecutor(len(self._networks))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._threads.shutdown()

    def backward(
        self, loss: Callable[[Network, Sequence[Example]], Tensor], batch: Sequence[Example]
    ) -> None:
        """Set the gradients of the network's parameters: of the mean loss of the parts of the batch, by their sizes.

        loss: of a network on some of the examples, a mean; called in several threads at a time.
        """
        count = len(self._networks)
        parts = [part for place in range(count) if (part := batch[place::count])]
        networks = self._networks[: len(parts)]
        self._spread(networks)
        if len(parts) == 1:
            _differentiate(loss, networks[0], parts[0])
            return
        list(self._threads.map(_differentiate, repeat(loss), networks, parts))
        shares = [len(part) / len(batch) for part in parts]
        for first, *others in zip(*(network.parameters() for network in networks), strict=True):
            total = torch.zeros_like(first)
            for parameter, share in zip((first, *others), shares, strict=True):
                if parameter.grad is not None:
                    total.add_(parameter.grad.to(first.device), alpha=share)
            first.grad = total

    def _spread(self, networks: Sequence[Network]) -> None:
        """Have the replicas begin from the network's parameters, without gradients."""
        with torch.no_grad():
            for network in networks:
                network.zero_grad()
            for first, *others in zip(*(network.parameters() for network in networks), strict=True):
                for parameter in others:
                    parameter.copy_(first, non_blocking=True)


def _differentiate(
    loss: Callable[[Network, Sequence[Example]], Tensor], network: Network, part: Sequence[Example]
) -> None:
    torch.autograd.backward(loss(network, part))
