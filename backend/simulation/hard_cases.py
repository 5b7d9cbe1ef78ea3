"""Pools as they are in practice: unbalanced, full of near-duplicates, repeated, and labeled with mistakes.

Only the pool is made harder. The test set stays as it came, so that scores can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from backend.simulation.dataset import Dataset
from backend.simulation.label_noise import mistaken_targets, mistaken_truth, wrong_classes
from backend.targets import BoxTarget, MaskTarget, VisionTask


@dataclass(frozen=True)
class HardCases:
    """What is done to the pool, in this order.

    imbalance: how many times larger the largest class is than the smallest; the classes between them shrink
        exponentially (the long tail of Cui et al., CVPR 2019). Each class keeps at least one image. Where an image may
        have several classes, one that comes with rarer ones may keep more.
    duplicates: the share of the pool that is near-duplicates of the rest; the pool's size stays.
    redundancy: how many times each image is in the pool.
    label_noise: the share of the pool's images that are labeled wrong: with another class, any of the others alike;
        for detection with boxes missed or of another class, for segmentation with two classes exchanged.

    Raises ValueError for values out of range.
    """

    imbalance: float = 1
    duplicates: float = 0
    redundancy: int = 1
    label_noise: float = 0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.imbalance) and self.imbalance >= 1):
            raise ValueError(f"imbalance is {self.imbalance}; write how many times larger, 1 or more.")
        if self.redundancy < 1:
            raise ValueError(f"redundancy is {self.redundancy}; write how many times, 1 or more.")
        for name in ("duplicates", "label_noise"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"{name.replace('_', '-')} is {getattr(self, name)}; write a share from 0 to below 1."
                )


@dataclass(frozen=True)
class Images:
    """Some images of a dataset, as an annotator would label them.

    positions: (n,) in the dataset. variants: (n,) 0 for the image itself, 1 and more for its near-duplicates.
    targets: (n, classes). mistakes: (n,) 0 where the objects or regions are labeled right, else the seed of the mistake
        (see `truth_of`).
    """

    positions: NDArray[np.int64]
    variants: NDArray[np.int64]
    targets: NDArray[np.float32]
    mistakes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, chosen: NDArray[np.int64]) -> Images:
        """Those at `chosen`."""
        return Images(
            self.positions[chosen], self.variants[chosen], self.targets[chosen], self.mistakes[chosen]
        )


def together(*parts: Images) -> Images:
    """One after the other."""
    return Images(
        np.concatenate([part.positions for part in parts]),
        np.concatenate([part.variants for part in parts]),
        np.concatenate([part.targets for part in parts]),
        np.concatenate([part.mistakes for part in parts]),
    )


def as_they_are(dataset: Dataset, positions: NDArray[np.int64]) -> Images:
    """Images of the dataset as they are, labeled right."""
    zeros = np.zeros(len(positions), np.int64)
    return Images(positions, zeros, dataset.targets[positions], zeros)


def truth_of(dataset: Dataset, position: int, mistake: int) -> BoxTarget | MaskTarget:
    """What the annotator says of an image of a dataset for detection or segmentation. mistake: see `Images`."""
    assert dataset.truths is not None
    return mistaken_truth(dataset, position, mistake) if mistake else dataset.truths(position)


def make_hard(dataset: Dataset, pool: Images, hard_cases: HardCases, rng: np.random.Generator) -> Images:
    """The pool with the hard cases in it. pool: of the dataset.

    Raises ValueError where no label can be wrong.
    """
    if hard_cases.imbalance > 1:
        pool = pool.take(_long_tailed(_present(pool.targets, dataset.multi_label), hard_cases.imbalance, rng))
    if hard_cases.duplicates:
        pool = _with_near_duplicates(pool, hard_cases.duplicates, rng)
    pool = pool.take(np.repeat(np.arange(len(pool)), hard_cases.redundancy))
    if hard_cases.label_noise:
        pool = _mislabeled(dataset, pool, hard_cases.label_noise, rng)
    return pool


def _present(targets: NDArray[np.float32], multi_label: bool) -> NDArray[np.bool_]:
    """Which classes each image has."""
    if multi_label:
        return targets > 0.5
    present: NDArray[np.bool_] = np.eye(targets.shape[1], dtype=np.bool_)[targets.argmax(axis=1)]
    return present


def _long_tailed(present: NDArray[np.bool_], imbalance: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions of the images that stay, in their order.

    present: (images, classes). Classes are thinned from the rarest on, each only by images that have no rarer one.
    """
    counts = present.sum(axis=0)
    by_size = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    kept = np.ones(len(present), np.bool_)
    rarer = np.zeros(len(present), np.bool_)  # whether an image has a class that was thinned
    for rank in range(len(by_size) - 1, 0, -1):
        has = present[:, by_size[rank]]
        size = max(1, round(int(counts.max()) * imbalance ** (-rank / (len(by_size) - 1))))
        own = np.flatnonzero(has & ~rarer)
        surplus = len(own) + np.count_nonzero(has & rarer & kept) - size
        if surplus > 0:
            kept[rng.choice(own, min(surplus, len(own)), replace=False)] = False
        rarer |= has
    for place in by_size:  # a class that is only seen beside rarer ones may have gone with them
        if not present[kept, place].any():
            kept[rng.choice(np.flatnonzero(present[:, place]))] = True
    return np.flatnonzero(kept)


def _with_near_duplicates(pool: Images, share: float, rng: np.random.Generator) -> Images:
    order = rng.permutation(len(pool))
    originals = order[: max(1, len(pool) - round(share * len(pool)))]
    sources = rng.choice(originals, len(pool) - len(originals))
    every = pool.take(np.concatenate([originals, sources]))
    numbers = np.concatenate([np.zeros(len(originals), np.int64), _numbered(sources)])
    return replace(every, variants=numbers)


def _numbered(sources: NDArray[np.int64]) -> NDArray[np.int64]:
    """1 for the first time that a value comes up, 2 for the second, and so on."""
    order = np.argsort(sources, kind="stable")
    _, first, inverse = np.unique(sources[order], return_index=True, return_inverse=True)
    numbers = np.empty(len(sources), np.int64)
    numbers[order] = np.arange(len(sources)) - first[inverse] + 1
    return numbers


def _mislabeled(dataset: Dataset, pool: Images, share: float, rng: np.random.Generator) -> Images:
    """In an image without anything there is nothing to mistake."""
    mistakable = np.flatnonzero(pool.targets.any(axis=1))
    wrong = rng.choice(mistakable, min(round(share * len(pool)), len(mistakable)), replace=False)
    targets, mistakes = pool.targets.copy(), pool.mistakes.copy()
    if dataset.truths is None:
        targets[wrong] = wrong_classes(targets[wrong], dataset.multi_label, rng)
    else:
        mistakes[wrong] = rng.integers(1, 1 << 62, len(wrong))
        for place in wrong.tolist():
            targets[place] = mistaken_targets(dataset, int(pool.positions[place]), int(mistakes[place]))
    return replace(pool, targets=targets, mistakes=mistakes)


def near_duplicate(
    image: Image.Image, position: int, variant: int, task: VisionTask = "classification"
) -> Image.Image:
    """The image cut a little off-centre, by up to a twentieth of its sides, and under a little other light.

    For detection and segmentation it is not cut: its objects stay where they are labeled. The same position in the
    dataset and variant give the same copy.
    """
    rng = np.random.default_rng([position, variant])
    # Deep greyscale is stretched over its own range when it is embedded, whatever the light.
    deep = image.mode.startswith(("I", "F"))
    copy = image.convert("F" if deep else "RGB")
    width, height = image.size
    left, top, right, bottom = rng.uniform(0, 0.05, 4)
    if task not in ("detection", "segmentation"):
        box = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
        copy = copy.resize(image.size, Image.Resampling.BILINEAR, box=box)
    if not deep:
        copy = ImageEnhance.Brightness(copy).enhance(rng.uniform(0.85, 1.15))
        copy = ImageEnhance.Contrast(copy).enhance(rng.uniform(0.85, 1.15))
    copy.info = dict(image.info)
    return copy
