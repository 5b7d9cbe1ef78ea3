"""What a strategy must offer and what it answers.

A strategy knows arrays only. It declares what it needs, the caller computes that and no more, and `rank`
answers with positions in the pool, best first.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from strategies.pool import Indices, Need, Pool, Scores


@dataclass(frozen=True, eq=False)
class Ranking:
    """The images to label, best first.

    indices: (k,) positions in the pool, without duplicates.
    scores: (k,) acquisition score that the strategy gave to each, higher = label sooner, on the strategy's
        own scale. Where an image is weighed against those chosen before it, the order is in `indices` alone.
    reasons: (k,) why each was chosen, in words that an annotator understands.
    """

    indices: Indices
    scores: Scores
    reasons: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.indices)


@runtime_checkable
class Strategy(Protocol):
    """What to label next."""

    @property
    def name(self) -> str:
        """The standard name, as in a spec."""

    @property
    def needs(self) -> frozenset[Need]:
        """What the pool must hold for `rank`."""

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """Ranks the best min(size, pool.size) images.

        The caller takes the ranking in order, `batch_size` images between two trainings, so each batch has to
        be good given all that come before it. The same pool and seed give the same ranking, in whatever order
        the pool is given: ties are broken by content (see `ordering`).

        Raises ValueError where the pool lacks a need, `size` is negative or `batch_size` is not positive.
        """


def check_request(size: int, batch_size: int) -> None:
    """Raises ValueError for a ranking that cannot be made."""
    if size < 0:
        raise ValueError(f"size is {size}; ask for 0 images or more.")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; a batch has at least one image.")
