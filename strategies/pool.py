"""The unlabeled pool as a strategy sees it: arrays, and what the caller is asked to compute for them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Scores = NDArray[np.float64]
Indices = NDArray[np.int64]


class MissingNeed(ValueError):
    """The pool was made without something that the strategy needs. The message names it."""


class Need(StrEnum):
    """What a strategy asks the caller to compute: the field of the pool that must be given."""

    PROBABILITIES = "probabilities"  # a committee of one is enough
    COMMITTEE = "committee"  # several members
    EMBEDDINGS = "embeddings"
    LABELED_EMBEDDINGS = "labeled_embeddings"
    FEATURES = "features"
    LABELED_TARGETS = "labeled_targets"
    VALIDATION = "validation"
    UNITS = "units"
    LABELED_UNITS = "labeled_units"  # as the labeled embeddings of `Pool.units.pool`
    GROUPS = "groups"
    LOCALISATION = "localisation"
    VERIFICATION = "verification"


@dataclass(frozen=True, eq=False)
class Validation:
    """What the learner got right and wrong on images that it was not trained on.

    features: (validated, features), the input of the learner's last layer, as `Pool.features`.
    correct: (validated,) whether the learner's likeliest class was the true one.
    """

    features: Floats
    correct: NDArray[np.bool_]

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", _rows("validation.features", self.features))
        object.__setattr__(self, "correct", np.asarray(self.correct, dtype=np.bool_))
        if self.correct.shape != (len(self.features),):
            raise ValueError(
                f"Pool.validation.correct has shape {self.correct.shape}; pass ({len(self.features)},), "
                "one value for each row of its features."
            )


@dataclass(frozen=True, eq=False)
class Verification:
    """How alike the images are to those who are known, for recognition in an open set.

    similarities: (size, identities), cosine between each image and the centre of each known identity.
    threshold: from which similarity on two images are taken to show the same.
    """

    similarities: Floats
    threshold: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "similarities", _rows("verification.similarities", self.similarities))


@dataclass(frozen=True, eq=False)
class Units:
    """The parts of images that the learner judges one by one: boxes, cells, pixels.

    pool: the units, each in the place of an image, with whatever is known of them.
    owners: (units,) position in the pool of the image that each is a part of.
    """

    pool: "Pool"
    owners: Indices

    @cached_property
    def by_owner(self) -> tuple[Indices, Indices]:
        """The positions of all units, image by image, and the owner of each in that order."""
        owners = np.asarray(self.owners, dtype=np.int64)
        order = np.argsort(owners, kind="stable")
        return order, owners[order]

    def of(self, images: Indices) -> tuple[Indices, Indices]:
        """The positions of the units of some images, one image after the other, and how many each of them has."""
        order, owners = self.by_owner  # so that the units of a few images are found without going through all
        starts, ends = (np.searchsorted(owners, images, side) for side in ("left", "right"))
        counts = ends - starts
        return order[
            np.arange(counts.sum()) + np.repeat(starts - (np.cumsum(counts) - counts), counts)
        ], counts


@dataclass(frozen=True, eq=False)
class Pool:
    """The unlabeled pool as a strategy sees it: `size` images and what is known of them.

    committee: (members, size, classes) class probabilities. Rows sum to one, or, with `multi_label`, each
        class has its own probability. The members are several learners, or several dropout draws of one.
    embeddings: (size, dimensions), embedding of each image, of any model.
    labeled_embeddings: (labeled, dimensions), embeddings of the labeled set; (0, dimensions) if it is empty.
    features: (size, features), the input of the learner's last layer, from which gradients follow.
    labeled_targets: (labeled, classes), the share of the votes for each class in the labeled set.
    validation: where the learner was right and where wrong.
    target_embeddings: (targets, dimensions), of images of the domain that the learner shall serve, where that
        is another than the pool's.
    units: what the learner finds in the images, where that is not one answer an image.
    localisation: (size,) mean overlap (intersection over union), in [0, 1], of the places where the committee's
        members see an object with the place that they agree on; of units that are boxes.
    verification: how alike the images are to known identities.
    groups: for each metadata field, such as weather or camera, its value for each image: (size,).
    labeled_groups: the same fields for the labeled set: (labeled,).
    classes: names of the classes, for the reasons that people read; numbered where absent.

    Raises ValueError, naming the field and the remedy, for a wrong shape, a value that is not finite, or
    probabilities that are none.
    """

    size: int
    committee: Floats | None = None
    embeddings: Floats | None = None
    labeled_embeddings: Floats | None = None
    features: Floats | None = None
    labeled_targets: Floats | None = None
    validation: Validation | None = None
    target_embeddings: Floats | None = None
    units: Units | None = None
    localisation: Floats | None = None
    verification: Verification | None = None
    groups: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    labeled_groups: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    multi_label: bool = False
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(f"Pool.size is {self.size}; it is a number of images, 0 or more.")
        if self.committee is not None:
            object.__setattr__(self, "committee", np.ascontiguousarray(self.committee, dtype=np.float32))
        for name in ("embeddings", "labeled_embeddings", "features", "labeled_targets", "target_embeddings"):
            if (array := getattr(self, name)) is not None:
                object.__setattr__(self, name, _rows(name, array))
        self._check_committee()
        self._check_rows()
        self._check_localisation()
        self._check_units()
        self._check_groups()

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
        if not self.multi_label and any(
            np.any(np.abs(member.sum(axis=1) - 1) > tolerance) for member in self.committee
        ):
            raise ValueError(
                "Pool.committee has rows that do not sum to 1; pass softmax outputs, "
                "or set multi_label=True where each class has its own probability."
            )

    def _check_rows(self) -> None:
        for name in ("embeddings", "features"):
            array = getattr(self, name)
            if array is not None and len(array) != self.size:
                raise ValueError(
                    f"Pool.{name} has shape {array.shape}; pass ({self.size}, dimensions), one row an image."
                )
        for name in ("labeled_embeddings", "target_embeddings"):
            array = getattr(self, name)
            if array is not None and self.embeddings is not None:
                _check_same_dimensions(name, array, "embeddings", self.embeddings)
        if self.validation is not None and self.features is not None:
            _check_same_dimensions("validation.features", self.validation.features, "features", self.features)
        if self.labeled_targets is not None:
            classes = self.labeled_targets.shape[1]
            if self.committee is not None and classes != self.committee.shape[2]:
                raise ValueError(
                    f"Pool.labeled_targets has {classes} classes and Pool.committee {self.committee.shape[2]}; "
                    "pass the share of votes for each of the committee's classes."
                )

        if self.verification is not None and len(self.verification.similarities) != self.size:
            raise ValueError(
                f"Pool.verification.similarities has {len(self.verification.similarities)} rows; "
                f"pass {self.size}, one an image."
            )

    def _check_localisation(self) -> None:
        if self.localisation is None:
            return
        overlap = np.asarray(self.localisation, dtype=np.float32)
        if overlap.shape != (self.size,) or not ((overlap >= 0) & (overlap <= 1)).all():
            raise ValueError(
                f"Pool.localisation has shape {overlap.shape}; pass ({self.size},) overlaps from 0 to 1."
            )
        object.__setattr__(self, "localisation", overlap)

    def _check_units(self) -> None:
        if self.units is None:
            return
        owners = np.asarray(self.units.owners, dtype=np.int64)
        if owners.shape != (self.units.pool.size,) or (
            len(owners) and not 0 <= owners.min() <= owners.max() < self.size
        ):
            raise ValueError(
                f"Pool.units.owners has shape {owners.shape} for {self.units.pool.size} units; pass for each "
                f"unit the position of its image, 0 to {self.size - 1}."
            )

    def _check_groups(self) -> None:
        for name, values in self.groups.items():
            if np.shape(values) != (self.size,):
                raise ValueError(
                    f"Pool.groups[{name!r}] has shape {np.shape(values)}; pass ({self.size},), a value an image."
                )

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """The committee's mean, (size, classes), in double precision: near-certain images stay apart."""
        mean: NDArray[np.float64] = self.require(Need.COMMITTEE).mean(axis=0, dtype=np.float64)
        return mean

    def require(self, need: Need) -> Floats:
        """The array behind a need. Raises MissingNeed where the pool was made without it."""
        array: Floats = self._required(need, "committee" if need is Need.PROBABILITIES else need.value)
        return array

    def require_validation(self) -> Validation:
        """What the learner got right and wrong. Raises MissingNeed where the pool was made without it."""
        validation: Validation = self._required(Need.VALIDATION, "validation")
        return validation

    def require_verification(self) -> Verification:
        """How alike the images are to known identities. Raises MissingNeed where the pool was made without it."""
        verification: Verification = self._required(Need.VERIFICATION, "verification")
        return verification

    def require_units(self) -> Units:
        """The parts of the images. Raises MissingNeed where the pool was made without them."""
        units: Units = self._required(Need.UNITS, "units")
        return units

    def _required(self, need: Need, name: str) -> Any:
        value = getattr(self, name)
        if value is None:
            raise MissingNeed(f"This strategy needs {need.value}: make the pool with Pool({name}=…).")
        return value

    def group(self, name: str) -> NDArray[np.str_]:
        """(size,) the values of a metadata field. Raises MissingNeed, naming those there are, if it is not one."""
        if name not in self.groups:
            there_are = ", ".join(sorted(self.groups)) or "none"
            raise MissingNeed(
                f"This strategy needs the metadata field {name!r}, which the images do not have. "
                f"There are: {there_are}."
            )
        return np.asarray(self.groups[name]).astype(np.str_)

    def take(self, indices: Indices, labeled_embeddings: Floats | None = None) -> "Pool":
        """The part of the pool at `indices`; `labeled_embeddings` replaces the labeled set's where given."""
        return replace(
            self,
            size=len(indices),
            committee=None if self.committee is None else self.committee[:, indices],
            embeddings=None if self.embeddings is None else self.embeddings[indices],
            labeled_embeddings=self.labeled_embeddings if labeled_embeddings is None else labeled_embeddings,
            features=None if self.features is None else self.features[indices],
            units=None if self.units is None else _take_units(self.units, indices),
            localisation=None if self.localisation is None else self.localisation[indices],
            verification=None
            if self.verification is None
            else replace(self.verification, similarities=self.verification.similarities[indices]),
            groups={name: np.asarray(values)[indices] for name, values in self.groups.items()},
        )

    def class_name(self, index: int) -> str:
        """How reasons call a class."""
        return f'"{self.classes[index]}"' if self.classes else f"class {index}"


def _take_units(units: Units, indices: Indices) -> Units:
    positions, counts = units.of(indices)
    return Units(units.pool.take(positions), np.repeat(np.arange(len(indices)), counts))


def _rows(name: str, array: Any) -> Floats:
    rows = np.ascontiguousarray(array, dtype=np.float32)
    if rows.ndim != 2:
        raise ValueError(
            f"Pool.{name} has shape {rows.shape}; pass one row for each image: (images, dimensions)."
        )
    _check_finite(name, rows)
    return rows


def _check_same_dimensions(name: str, array: Floats, other_name: str, other: Floats) -> None:
    if array.shape[1] != other.shape[1]:
        raise ValueError(
            f"Pool.{name} has {array.shape[1]} dimensions and Pool.{other_name} {other.shape[1]}; "
            "compute both with the same model."
        )


def _check_finite(field: str, array: Floats) -> None:
    # Minimum and maximum carry NaN and infinity through, without a temporary array of the pool's size.
    if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
        axis = array.ndim - 2  # the images' axis
        others = tuple(i for i in range(array.ndim) if i != axis)
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=others))[0])
        raise ValueError(f"Pool.{field} holds NaN or infinity, first in image {row}; leave such images out.")
