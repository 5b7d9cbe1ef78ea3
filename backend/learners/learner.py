"""What the loop and the simulator know of a learner, whatever task it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.targets import Prediction

Embed = Callable[[Sequence[Image.Image]], NDArray[np.float32]]
"""Images in, (images, dimension) out."""


@dataclass(frozen=True)
class Evaluation:
    """How good a learner is, measured on images that it was not trained on.

    metric: what `score` is, in words. score: in [0, 1], higher is better.
    interval: 95 % confidence interval of the score. total: images measured on.
    classes: for each class its name, how often it truly occurs (`actual`), and its own part of the score
        (None where it does not occur).
    details: further figures of the task, by name, for people.
    """

    metric: str
    score: float
    interval: tuple[float, float]
    total: int
    classes: tuple[Mapping[str, Any], ...]
    details: Mapping[str, float | None]

    def to_json(self) -> dict[str, Any]:
        """Numbers, strings and None only."""
        return {
            "metric": self.metric,
            "score": self.score,
            "interval": list(self.interval),
            "total": self.total,
            "classes": [dict(values) for values in self.classes],
            "details": dict(self.details),
        }


class Answers(Protocol):
    """What a learner says of some images, in their order: kept for a whole pool, so it must be small."""

    def __len__(self) -> int: ...

    def take(self, positions: NDArray[np.int64]) -> Self:
        """The answers about some of the images."""

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The answers of several batches as one; at least one part."""

    def pool_fields(self) -> Mapping[str, Any]:
        """Fields of `strategies.Pool` that follow from the answers: `committee`, and `units` where there are any.

        For tasks that have several answers an image, `committee` is (members, images, classes) the probability that
        the class is present in the image, and the pool is `multi_label`.
        """

    def prediction(self, position: int) -> Prediction:
        """The answer about one image."""


class Learner(Protocol):
    """The task model of one question to the annotators."""

    @property
    def classes(self) -> tuple[str, ...]:
        """What it can answer, in the order of the columns of `Answers.pool_fields()["committee"]`."""

    def save(self, directory: Path) -> None:
        """Write the learner into `directory`, replacing the one there in a single step."""


class EmbeddingLearner(Learner, Protocol):
    """A learner that is given stored embeddings."""

    def answers(self, embeddings: NDArray[np.float32]) -> Answers:
        """What it says of images with these embeddings, (images, dimension)."""


class PixelLearner(Learner, Protocol):
    """A learner that looks at the images themselves."""

    @property
    def size(self) -> int:
        """Pixels that the shorter side of an image should at least have when it is given to `prepare`."""

    def prepare(self, image: Image.Image) -> Any:
        """The image as `answers` takes it: resized, an array of bytes. Called in several threads at a time."""

    def answers(self, prepared: Sequence[Any]) -> Answers:
        """What it says of a batch of prepared images."""


@dataclass(frozen=True)
class LabeledImages:
    """Labeled images for a learner that looks at them.

    load: the image at a position, RGB and upright. targets: one for each image.
    """

    load: Callable[[int], Image.Image]
    targets: Sequence[Any]

    def __len__(self) -> int:
        return len(self.targets)
