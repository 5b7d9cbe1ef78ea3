"""From what a reader found to a `Dataset`: sampled, without broken images and classes that no image has."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.simulation.dataset import Dataset
from backend.simulation.datasets.errors import DatasetError
from backend.simulation.datasets.images import ImageSource
from backend.simulation.datasets.truths import Truth
from backend.targets import BoxTarget, MaskTarget, VisionTask

SAMPLE_SEED = 0  # the same images whenever the same limit is given


@dataclass(frozen=True, slots=True)
class Example:
    """One labeled image.

    labels: class → 1, or the share of the votes for it. They sum to 1 unless the set is multi-label.
    test: whether it belongs to the test split that comes with the data.
    truth: its objects or regions, for detection and segmentation.
    size: width and height of the image that these are for, where that is known.
    """

    image: ImageSource
    labels: Mapping[str, float]
    metadata: Mapping[str, str] = field(default_factory=dict)
    test: bool = False
    truth: Truth | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Contents:
    """What a reader found.

    classes: all that occur in the examples, in the order they are to have; those that do not occur are dropped.
    broken: what it had to leave out, each with the sentence that says why.
    """

    examples: Sequence[Example]
    classes: Sequence[str]
    multi_label: bool
    broken: Sequence[str] = ()


def assemble(name: str, contents: Contents, task: VisionTask, limit: int | None) -> Dataset:
    """The data set of what was found, or of `limit` images drawn from what is not its test split.

    Raises DatasetError where that leaves nothing to learn from.
    """
    if task == "face" and contents.multi_label:
        raise DatasetError(
            f"An image of {name} may have several classes: for faces, it has one person's name."
        )
    broken = list(contents.broken)
    examples = []
    for example in _sample(contents.examples, limit):
        try:
            example.image.look(example.size)
            examples.append(example)
        except DatasetError as reason:
            broken.append(str(reason))
    if not examples:
        raise DatasetError(f"{name} has no labeled image that can be read.{_first(broken)}")

    occurring = {label for example in contents.examples for label, share in example.labels.items() if share}
    classes = tuple(label for label in dict.fromkeys(contents.classes) if label in occurring)
    targets = _targets(examples, classes)
    test = np.array([example.test for example in examples])
    truths = [example.truth for example in examples if example.truth is not None]
    if truths:
        _check_objects(name, targets[~test], broken)
    else:
        _check_difference(name, targets[~test], classes, contents.multi_label, broken)

    images = [example.image for example in examples]

    def load(position: int) -> Image.Image:
        return images[position].load()

    def read(position: int) -> BoxTarget | MaskTarget:
        return truths[position].read()

    return Dataset(
        name=name,
        classes=classes,
        multi_label=contents.multi_label,
        targets=targets,
        load=load,
        groups=_groups(examples),
        test=np.flatnonzero(test).astype(np.int64) if test.any() else None,
        fingerprint=_fingerprint(images, truths, targets, (task, *classes), test),
        broken=tuple(broken),
        task=task,
        truths=read if truths else None,
    )


def _sample(examples: Sequence[Example], limit: int | None) -> list[Example]:
    """All of the test split and, of the others, `limit` drawn uniformly; in the order they came in."""
    pool = [position for position, example in enumerate(examples) if not example.test]
    if limit is None or len(pool) <= limit:
        return list(examples)
    drawn = np.random.default_rng(SAMPLE_SEED).choice(pool, limit, replace=False)
    kept = np.array([example.test for example in examples])
    kept[drawn] = True
    return [examples[position] for position in np.flatnonzero(kept)]


def _targets(examples: Sequence[Example], classes: Sequence[str]) -> NDArray[np.float32]:
    column = {label: number for number, label in enumerate(classes)}
    targets = np.zeros((len(examples), len(classes)), np.float32)
    for row, example in enumerate(examples):
        for label, share in example.labels.items():
            if share:
                targets[row, column[label]] = share
    return targets


def _check_objects(name: str, targets: NDArray[np.float32], broken: Sequence[str]) -> None:
    """targets: of the images that labeling is replayed on."""
    _check_pool(name, targets, broken)
    if not targets.any():
        raise DatasetError(
            f"Nothing is marked in the images of {name}: there is nothing to find.{_first(broken)}"
        )


def _check_difference(
    name: str,
    targets: NDArray[np.float32],
    classes: Sequence[str],
    multi_label: bool,
    broken: Sequence[str],
) -> None:
    """targets: of the images that labeling is replayed on."""
    _check_pool(name, targets, broken)
    if multi_label and not (targets.min(axis=0) != targets.max(axis=0)).any():
        raise DatasetError(
            f"All images of {name} have the same labels: there is no difference to learn. Add images of other "
            f"classes, and some without.{_first(broken)}"
        )
    present = [label for label, share in zip(classes, targets.sum(axis=0), strict=True) if share]
    if not multi_label and len(present) < 2:
        raise DatasetError(
            f"All {len(targets)} images of {name} are of one class, {present[0]!r}: two at least are needed."
            + _first(broken)
        )


def _check_pool(name: str, targets: NDArray[np.float32], broken: Sequence[str]) -> None:
    if not len(targets):
        raise DatasetError(
            f"All images of {name} that can be read are in its test split: give it a training split as well."
            + _first(broken)
        )


def _first(broken: Sequence[str]) -> str:
    return f" {len(broken)} were left out, the first because: {broken[0]}" if broken else ""


def _groups(examples: Sequence[Example]) -> dict[str, NDArray[np.str_]]:
    """The metadata that divides the images: not one value for all, nor a value of its own for each.

    An image without the field has "".
    """
    groups = {}
    for key in dict.fromkeys(key for example in examples for key in example.metadata):
        values = np.array([example.metadata.get(key, "") for example in examples], np.str_)
        if 1 < len(np.unique(values)) < len(values):
            groups[key] = values
    return groups


def _fingerprint(
    images: Sequence[ImageSource],
    truths: Sequence[Truth],
    targets: NDArray[np.float32],
    names: Sequence[str],
    test: NDArray[np.bool_],
) -> str:
    content = hashlib.sha256(repr(tuple(names)).encode())
    content.update(targets.tobytes() + test.tobytes())
    for identity in (*(image.identity() for image in images), *(truth.identity() for truth in truths)):
        content.update(identity)
    return content.hexdigest()
