"""What a detector says of images, small enough to be kept for a whole pool."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from backend.targets import Box, BoxTarget, Prediction
from strategies.pool import Pool, Units

SHOWN = 0.5  # probability from which on a box is part of the prediction
WEIGHED = (
    0.2  # probability from which on it is a unit for strategies: the others are hardly objects, but many
)


class Boxes(NamedTuple):
    """Boxes in an image. places: (n, 4) left, top, right, bottom, in shares; labels: (n,) positions of their classes;
    scores: (n,) probabilities."""

    places: NDArray[np.float64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BoxAnswers:
    """The boxes found in each of some images, the unlikely ones among them.

    sizes: (images, 2) width and height of the originals in pixels. owners: (boxes,) the position of each one's image,
    never falling. places: (boxes, 4) left, top, right, bottom, in shares of the image. committee: (members, boxes,
    classes) probabilities, each class with its own. localisation: (boxes,) mean overlap of the members' boxes with the
    mean of them. embeddings: (boxes, dimension), of length 1.

    Half precision where that is enough: some 300 bytes a box with 8 members, 3 classes and 64 dimensions.
    """

    classes: tuple[str, ...]
    sizes: NDArray[np.int32]
    owners: NDArray[np.int64]
    places: NDArray[np.float32]
    committee: NDArray[np.float16]
    localisation: NDArray[np.float16]
    embeddings: NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.sizes)

    def take(self, positions: NDArray[np.int64]) -> Self:
        """The answers about some of the images."""
        starts, ends = self._spans()
        counts = (ends - starts)[positions]
        new_owners = np.repeat(np.arange(len(positions)), counts)
        within = np.arange(len(new_owners)) - np.repeat(np.cumsum(counts) - counts, counts)
        kept = starts[positions][new_owners] + within
        return type(self)(
            self.classes,
            self.sizes[positions],
            new_owners,
            self.places[kept],
            self.committee[:, kept],
            self.localisation[kept],
            self.embeddings[kept],
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The answers of several batches as one; at least one part."""
        offsets = np.cumsum([0, *(len(part) for part in parts[:-1])])
        return cls(
            parts[0].classes,
            np.concatenate([part.sizes for part in parts]),
            np.concatenate([part.owners + offset for part, offset in zip(parts, offsets, strict=True)]),
            np.concatenate([part.places for part in parts]),
            np.concatenate([part.committee for part in parts], axis=1),
            np.concatenate([part.localisation for part in parts]),
            np.concatenate([part.embeddings for part in parts]),
        )

    def only(self, kept: NDArray[np.bool_]) -> Self:
        """The same images with some of their boxes. kept: (boxes,)."""
        return type(self)(
            self.classes,
            self.sizes,
            self.owners[kept],
            self.places[kept],
            self.committee[:, kept],
            self.localisation[kept],
            self.embeddings[kept],
        )

    def presence(self) -> NDArray[np.float32]:
        """(members, images, classes) the highest probability of each class in each image, 0 where nothing is found."""
        members, _, classes = self.committee.shape
        presence = np.zeros((members, len(self), classes), np.float32)
        starts, ends = self._spans()
        some = np.flatnonzero(ends > starts)
        if len(some):
            presence[:, some] = np.maximum.reduceat(self.committee, starts[some], axis=1)
        return presence

    def pool_fields(self) -> Mapping[str, Any]:
        """`committee`, the presence of the classes, and `units`, the boxes but the unlikely ones."""
        kept = np.flatnonzero(self.committee.mean(axis=0, dtype=np.float32).max(axis=1, initial=0) >= WEIGHED)
        boxes = Pool(
            len(kept),
            committee=self.committee[:, kept].astype(np.float32),
            embeddings=self.embeddings[kept].astype(np.float32),
            localisation=self.localisation[kept].astype(np.float32),
            multi_label=True,
            classes=self.classes,
        )
        return {"committee": self.presence(), "units": Units(boxes, self.owners[kept])}

    def boxes(self, position: int) -> Boxes:
        """All boxes in an image, the likeliest first, each with its likeliest class."""
        start, end = np.searchsorted(self.owners, [position, position + 1])
        probabilities = self.committee[:, start:end].mean(axis=0, dtype=np.float64)
        labels = probabilities.argmax(axis=1)
        scores = probabilities.max(axis=1)
        order = np.argsort(-scores, kind="stable")
        return Boxes(self.places[start:end][order].astype(np.float64), labels[order], scores[order])

    def prediction(self, position: int) -> Prediction:
        """The boxes that are likelier there than not.

        The confidence of the whole is the mean of theirs; where there are none, that no unlikely one is there either.
        """
        found = self.boxes(position)
        shown = found.scores >= SHOWN
        boxes = tuple(
            Box(self.classes[label], *map(float, place))
            for place, label in zip(found.places[shown], found.labels[shown], strict=True)
        )
        confidences = found.scores[shown].tolist()
        confidence = float(np.mean(confidences)) if boxes else 1 - float(found.scores.max(initial=0))
        width, height = self.sizes[position]
        return Prediction(BoxTarget(boxes), confidences, confidence, size=(int(width), int(height)))

    def _spans(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(images,) where the boxes of each begin and end."""
        ends = np.cumsum(np.bincount(self.owners, minlength=len(self)))
        return np.append(0, ends[:-1]), ends
