"""Pools as they are in practice: unbalanced, full of near-duplicates, repeated, and labeled with mistakes.

Only the pool is made harder. The test set stays as it came, so that scores can be compared.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance


@dataclass(frozen=True)
class HardCases:
    """What is done to the pool, in this order.

    imbalance: how many times larger the largest class is than the smallest; the classes between them shrink
        exponentially (the long tail of Cui et al., CVPR 2019). Each class keeps at least one image.
    duplicates: the share of the pool that is near-duplicates of the rest; the pool's size stays.
    redundancy: how many times each image is in the pool.
    label_noise: the share of the pool's labels that name another class, any of the others alike.

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

    def check_for(self, multi_label: bool) -> None:
        """Raises ValueError where the images may have several classes and a hard case wants one each."""
        if multi_label and (self.imbalance > 1 or self.label_noise):
            raise ValueError(
                "imbalance and label-noise are for images of one class each; these may have several."
            )


@dataclass(frozen=True)
class Images:
    """Some images of a dataset, as an annotator would label them.

    positions: (n,) in the dataset. variants: (n,) 0 for the image itself, 1 and more for its near-duplicates.
    targets: (n, classes).
    """

    positions: NDArray[np.int64]
    variants: NDArray[np.int64]
    targets: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, chosen: NDArray[np.int64]) -> "Images":
        """Those at `chosen`."""
        return Images(self.positions[chosen], self.variants[chosen], self.targets[chosen])


def make_hard(pool: Images, hard_cases: HardCases, rng: np.random.Generator) -> Images:
    """The pool with the hard cases in it."""
    if hard_cases.imbalance > 1:
        pool = pool.take(_long_tailed(pool.targets.argmax(axis=1), hard_cases.imbalance, rng))
    if hard_cases.duplicates:
        pool = _with_near_duplicates(pool, hard_cases.duplicates, rng)
    pool = pool.take(np.repeat(np.arange(len(pool)), hard_cases.redundancy))
    if hard_cases.label_noise:
        pool = Images(pool.positions, pool.variants, _mislabeled(pool.targets, hard_cases.label_noise, rng))
    return pool


def _long_tailed(labels: NDArray[np.int64], imbalance: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions of the images that stay, in their order."""
    classes, counts = np.unique(labels, return_counts=True)
    by_size = np.argsort(-counts, kind="stable")
    kept = []
    for rank, place in enumerate(by_size):
        share = imbalance ** (-rank / max(1, len(classes) - 1))
        size = min(int(counts[place]), max(1, round(int(counts.max()) * share)))
        kept.append(rng.choice(np.flatnonzero(labels == classes[place]), size, replace=False))
    return np.sort(np.concatenate(kept))


def _with_near_duplicates(pool: Images, share: float, rng: np.random.Generator) -> Images:
    order = rng.permutation(len(pool))
    originals = order[: max(1, len(pool) - round(share * len(pool)))]
    sources = rng.choice(originals, len(pool) - len(originals))
    every = pool.take(np.concatenate([originals, sources]))
    numbers = np.concatenate([np.zeros(len(originals), np.int64), _numbered(sources)])
    return Images(every.positions, numbers, every.targets)


def _numbered(sources: NDArray[np.int64]) -> NDArray[np.int64]:
    """1 for the first time that a value comes up, 2 for the second, and so on."""
    order = np.argsort(sources, kind="stable")
    _, first, inverse = np.unique(sources[order], return_index=True, return_inverse=True)
    numbers = np.empty(len(sources), np.int64)
    numbers[order] = np.arange(len(sources)) - first[inverse] + 1
    return numbers


def _mislabeled(targets: NDArray[np.float32], share: float, rng: np.random.Generator) -> NDArray[np.float32]:
    count, classes = targets.shape
    if classes < 2:
        raise ValueError("label-noise needs two classes or more: with one, no label can be wrong.")
    wrong = rng.choice(count, round(share * count), replace=False)
    true = targets[wrong].argmax(axis=1)
    other = (true + rng.integers(1, classes, len(wrong))) % classes
    noisy = targets.copy()
    noisy[wrong] = np.eye(classes, dtype=np.float32)[other]
    return noisy


def near_duplicate(image: Image.Image, position: int, variant: int) -> Image.Image:
    """The image cut a little off-centre, by up to a twentieth of its sides, and under a little other light.

    The same position in the dataset and variant give the same copy.
    """
    rng = np.random.default_rng([position, variant])
    # Deep greyscale is stretched over its own range when it is embedded, whatever the light.
    deep = image.mode.startswith(("I", "F"))
    image = image.convert("F" if deep else "RGB")
    width, height = image.size
    left, top, right, bottom = rng.uniform(0, 0.05, 4)
    box = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
    image = image.resize(image.size, Image.Resampling.BILINEAR, box=box)
    if deep:
        return image
    image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.85, 1.15))
    return ImageEnhance.Contrast(image).enhance(rng.uniform(0.85, 1.15))
