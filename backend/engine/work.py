"""What the engines share: the work to be done on every image, and what comes back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Rows(Protocol):
    """Something with a row for each image."""

    def __len__(self) -> int: ...


T = TypeVar("T")
Loaded = TypeVar("Loaded")
R = TypeVar("R", bound=Rows)


@dataclass(frozen=True)
class Work(Generic[T, Loaded, R]):
    """Load each item's image (fetch, decode, resize), and compute on them batch by batch.

    failures: what `load` may raise at the cost of that one item; any other exception propagates.
    """

    load: Callable[[T], Loaded]
    compute: Callable[[Sequence[Loaded]], R]
    failures: tuple[type[Exception], ...]


@dataclass(frozen=True)
class Batch(Generic[T, R]):
    """One computed batch."""

    items: list[T]
    """What was computed, in the order it came in."""
    outputs: R | None
    """A row for each of `items`; None where the whole batch is broken."""
    broken: list[tuple[T, Exception]]
    """What could not be loaded, and why: `reason_of` tells it."""


def reason_of(error: Exception) -> str:
    """An exception in a sentence, or at least a word."""
    return str(error) or type(error).__name__
