"""A fully labeled set of images, as every reader in `datasets` delivers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.targets import BoxTarget, MaskTarget, VisionTask


@dataclass(frozen=True)
class Dataset:
    """A fully labeled set of images, to replay labeling on.

    name: how the report calls it.
    classes: their names, in the order of the columns of `targets`.
    multi_label: whether an image may have several classes at once.
    targets: (images, classes) one-hot, 0/1 where `multi_label`, or the share of the votes for each class. For
        detection and segmentation 1 for each class that is in the image; for faces the classes are people.
    load: the image at a position. Raises ValueError, naming the image, where it cannot be read.
    groups: for each metadata field its value for each image, (images,).
    test: (tests,) positions of the test split that comes with the data, or None.
    fingerprint: identity of the content, by which computed embeddings are found again.
    broken: images that were left out, each with the sentence that says why.
    task: what is asked of the images.
    truths: the objects in the image at a position, or its regions, for detection and segmentation; else None, as
        `targets` says all. Read when asked for, as masks are large. Raises ValueError where that fails.
    """

    name: str
    classes: tuple[str, ...]
    multi_label: bool
    targets: NDArray[np.float32]
    load: Callable[[int], Image.Image]
    groups: Mapping[str, NDArray[np.str_]]
    test: NDArray[np.int64] | None
    fingerprint: str
    broken: tuple[str, ...] = ()
    task: VisionTask = "classification"
    truths: Callable[[int], BoxTarget | MaskTarget] | None = None

    def __len__(self) -> int:
        return len(self.targets)
