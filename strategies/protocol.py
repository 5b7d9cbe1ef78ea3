"""What a strategy is given, what it answers, and what it must offer.

A strategy knows arrays only. It declares what it needs, the caller computes that and no more, and `rank`
answers with positions in the pool, best first.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Scores = NDArray[np.float64]
Indices = NDArray[np.int64]


class Need(StrEnum):
    """What a strategy asks the caller to compute."""

    PROBABILITIES = "probabilities"  # a committee of one is enough
    COMMITTEE = "committee"  # several members
    EMBEDDINGS = "embeddings"
    LABELED_EMBEDDINGS = "labeled_embeddings"


@dataclass(frozen=True, eq=False)
class Pool:
    """The unlabeled pool as a strategy sees it: `size` images and what is known of them.

    committee: (members, size, classes) class probabilities. Rows sum to one, or, with `multi_label`, each
        class has its own probability. The members are several learners, or several dropout draws of one.
    embeddings: (size, dimensions), embedding of each image.
    labeled_embeddings: (labeled, dimensions), embeddings of the labeled set; (0, dimensions) if it is empty.
    classes: names of the classes, for the reasons that people read; numbered where absent.

    Raises ValueError, naming the field and the remedy, for a wrong shape, a value that is not finite, or
    probabilities that are none.
    """

    size: int
    committee: Floats | None = None
    embeddings: Floats | None = None
    labeled_embeddings: Floats | None = None
    multi_label: bool = False
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(f"Pool.size is {self.size}; it is a number of images, 0 or more.")
        for field in ("committee", "embeddings", "labeled_embeddings"):
            if (array := getattr(self, field)) is not None:
                object.__setattr__(self, field, np.ascontiguousarray(array, dtype=np.float32))
        self._check_committee()
        self._check_embeddings()

    def _check_committee(self) -> None:
        if self.committee is None:
            return
        shape = self.committee.shape
        if len(shape) != 3 or shape[1] != self.size or 0 in (shape[0], shape[2]):
            raise ValueError(
                f"Pool.committee has shape {shape}; pass (members, {self.size}, classes) with at least one "
                "member and one class. One model's probabilities p are p[None]."
            )
        if self.classes and len(self.classes) != shape[2]:
            raise ValueError(
                f"Pool.classes has {len(self.classes)} names for {shape[2]} classes; "
                "pass one name a class, or none."
            )
        _check_finite("committee", self.committee)
        tolerance = 0.01  # half precision
        if self.committee.size and not (
            -tolerance <= self.committee.min() <= self.committee.max() <= 1 + tolerance
        ):
            raise ValueError("Pool.committee has values outside 0..1; pass probabilities, not logits.")
        if not self.multi_label and np.any(np.abs(self.committee.sum(axis=2) - 1) > tolerance):
            raise ValueError(
                "Pool.committee has rows that do not sum to 1; pass softmax outputs, "
                "or set multi_label=True where each class has its own probability."
            )

    def _check_embeddings(self) -> None:
        if self.embeddings is not None:
            if self.embeddings.ndim != 2 or len(self.embeddings) != self.size:
                raise ValueError(
                    f"Pool.embeddings has shape {self.embeddings.shape}; pass ({self.size}, dimensions), "
                    "one row an image."
                )
            _check_finite("embeddings", self.embeddings)
        if self.labeled_embeddings is not None:
            if self.labeled_embeddings.ndim != 2:
                raise ValueError(
                    f"Pool.labeled_embeddings has shape {self.labeled_embeddings.shape}; "
                    "pass (labeled, dimensions), or (0, dimensions) while nothing is labeled."
                )
            if self.embeddings is not None and self.embeddings.shape[1] != self.labeled_embeddings.shape[1]:
                raise ValueError(
                    f"Pool.labeled_embeddings has {self.labeled_embeddings.shape[1]} dimensions and "
                    f"Pool.embeddings {self.embeddings.shape[1]}; embed both with the same model."
                )
            _check_finite("labeled_embeddings", self.labeled_embeddings)

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """The committee's mean, (size, classes), in double precision: near-certain images stay apart."""
        mean: NDArray[np.float64] = self.require(Need.COMMITTEE).mean(axis=0, dtype=np.float64)
        return mean

    def require(self, need: Need) -> Floats:
        """The array behind a need. Raises ValueError where the pool was made without it."""
        field = "committee" if need is Need.PROBABILITIES else need.value
        array: Floats | None = getattr(self, field)
        if array is None:
            raise ValueError(f"This strategy needs {need.value}: make the pool with Pool({field}=…).")
        return array

    def take(self, indices: Indices, labeled_embeddings: Floats | None = None) -> "Pool":
        """The part of the pool at `indices`; `labeled_embeddings` replaces the labeled set where given."""
        return Pool(
            size=len(indices),
            committee=None if self.committee is None else self.committee[:, indices],
            embeddings=None if self.embeddings is None else self.embeddings[indices],
            labeled_embeddings=self.labeled_embeddings if labeled_embeddings is None else labeled_embeddings,
            multi_label=self.multi_label,
            classes=self.classes,
        )

    def class_name(self, index: int) -> str:
        """How reasons call a class."""
        return f'"{self.classes[index]}"' if self.classes else f"class {index}"


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


def _check_finite(field: str, array: Floats) -> None:
    # Minimum and maximum carry NaN and infinity through, without a temporary array of the pool's size.
    if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
        axis = array.ndim - 2  # the images' axis
        others = tuple(i for i in range(array.ndim) if i != axis)
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=others))[0])
        raise ValueError(f"Pool.{field} holds NaN or infinity, first in image {row}; leave such images out.")
