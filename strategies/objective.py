"""What a product of objectives is made of.

An objective is a strategy that can say, for any image, how good a pick it is now that others are labeled or picked: a
number of 0 or more, its *factor*. A factor never rises as images are picked. So a stale one is an upper bound, which is
what makes an exact greedy selection cheap (see `greedy`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from strategies.pool import Indices, Pool, Scores
from strategies.protocol import Strategy


class Factor(ABC):
    """An objective's worth of each image of one pool, kept up to date with the picks.

    Where it is costly, `bounds` answers at once with what is known, and `tighten` makes that better.
    """

    @abstractmethod
    def values(self, indices: Indices | slice) -> Scores:
        """(k,) the worth of the images at `indices`, 0 or more, the higher the better."""

    @abstractmethod
    def reason(self, index: int) -> str:
        """Why to pick the image at `index` now, in words."""

    @abstractmethod
    def add(self, index: int) -> None:
        """Counts the image at `index` as picked."""

    def bounds(self, indices: Indices | slice) -> Scores:
        """(k,) what the values of these images do not exceed, not even by rounding."""
        return self.values(indices)

    def tighten(self, indices: Indices) -> Scores:
        """(k,) the bounds of these images, now as close to their values as is cheap for many images."""
        return self.bounds(indices)

    def fading(self) -> float:
        """What no value is a larger part of its bound than, since `bounds` was asked for all images.

        Where all fade alike, few have to be looked at anew. It is 1 where nothing is known or a value may be 0.
        """
        return 1.0


class FixedFactor(Factor):
    """A worth that the picks do not change.

    Raises ValueError, naming the strategy, for a score below 0: a product has no use for signs.
    """

    def __init__(self, name: str, scores: Scores, reason: Callable[[int], str]) -> None:
        if len(scores) and scores.min() < 0:
            raise ValueError(
                f"{name} gave scores below 0 (the least is {scores.min():.3g}); the objectives of a product have "
                "scores of 0 or more."
            )
        self.scores, self._reason = scores, reason

    def values(self, indices: Indices | slice) -> Scores:
        return self.scores[indices]

    def reason(self, index: int) -> str:
        return self._reason(index)

    def add(self, index: int) -> None:
        pass


@runtime_checkable
class Objective(Strategy, Protocol):
    """A strategy that can be an objective of a product."""

    def factor(self, pool: Pool, size: int) -> Factor:
        """Its factor for `size` picks of the pool. Raises ValueError where the pool lacks a need."""
