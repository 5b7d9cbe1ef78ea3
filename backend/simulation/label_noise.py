"""Labels as careless annotators give them.

The mistakes in an image follow from a seed of its own: they are the same whenever the image is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from backend.simulation.dataset import Dataset
from backend.targets import Box, BoxTarget, MaskTarget

MISTAKEN_BOXES = 1 / 2  # of those of a wrongly labeled image; one at least
MISSED = 1 / 2  # of the mistaken boxes; the others are called by another class


def wrong_classes(
    targets: NDArray[np.float32], multi_label: bool, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Each image with another class, any of the others alike, in place of one that it has; (images, classes)."""
    count, classes = targets.shape
    _check_classes(classes)
    steps = rng.integers(1, classes, count)
    present = targets > 0.5 if multi_label else np.eye(classes, dtype=np.bool_)[targets.argmax(axis=1)]
    true = (present * rng.random(present.shape)).argmax(axis=1)
    wrong = targets.copy() if multi_label else np.zeros_like(targets)
    rows = np.arange(count)
    wrong[rows, true] = 0
    wrong[rows, (true + steps) % classes] = 1
    return wrong


def mistaken_truth(dataset: Dataset, position: int, seed: int) -> BoxTarget | MaskTarget:
    """The objects or regions in an image as someone careless sees them.

    Of boxes some are missed and some called by another class. Of regions, two classes are exchanged.
    """
    assert dataset.truths is not None
    truth = dataset.truths(position)
    if isinstance(truth, BoxTarget):
        return _mistaken_boxes(truth, dataset.classes, seed)
    one, other = (dataset.classes[column] for column in _exchanged(dataset.targets[position], seed))
    names = {one: other, other: one}
    regions = (replace(r, label=r.label and names.get(r.label, r.label)) for r in truth.regions)
    return replace(truth, regions=tuple(regions))


def mistaken_targets(dataset: Dataset, position: int, seed: int) -> NDArray[np.float32]:
    """(classes,): 1 for each class in `mistaken_truth`; no mask is read for it."""
    if dataset.task == "segmentation":
        columns = np.array(_exchanged(dataset.targets[position], seed))
        exchanged: NDArray[np.float32] = dataset.targets[position].copy()
        exchanged[columns] = exchanged[columns[::-1]]
        return exchanged
    truth = mistaken_truth(dataset, position, seed)
    assert isinstance(truth, BoxTarget)
    names = {box.label for box in truth.boxes}
    return np.array([name in names for name in dataset.classes], np.float32)


def _mistaken_boxes(truth: BoxTarget, classes: Sequence[str], seed: int) -> BoxTarget:
    rng = np.random.default_rng(seed)
    count = len(truth.boxes)
    mistaken = rng.random(count) < MISTAKEN_BOXES
    mistaken[rng.integers(count)] = True
    missed = rng.random(count) < (MISSED if len(classes) > 1 else 1)
    steps = rng.integers(1, max(2, len(classes)), count)
    boxes: list[Box] = []
    for box, wrong, gone, step in zip(truth.boxes, mistaken, missed, steps, strict=True):
        if not wrong:
            boxes.append(box)
        elif not gone:
            boxes.append(replace(box, label=classes[(classes.index(box.label) + step) % len(classes)]))
    return replace(truth, boxes=tuple(boxes))


def _exchanged(targets: NDArray[np.float32], seed: int) -> tuple[int, int]:
    """Two columns, the first of a class in the image."""
    _check_classes(len(targets))
    rng = np.random.default_rng(seed)
    one = int(rng.choice(np.flatnonzero(targets)))
    return one, int((one + rng.integers(1, len(targets))) % len(targets))


def _check_classes(classes: int) -> None:
    if classes < 2:
        raise ValueError("label-noise needs two classes or more: with one, no label can be wrong.")
