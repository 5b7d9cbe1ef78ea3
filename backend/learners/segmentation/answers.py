"""What a segmenter says of images, small enough to be kept for a whole pool."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as run_lengths
from scipy import ndimage

from backend.learners.segmentation.rendering import BACKGROUND, LabelMap
from backend.targets import Bitmap, MaskTarget, Prediction
from strategies.pool import Pool, Units

SPECK = 0.0005  # share of an image; a person does not correct smaller regions, but deletes them


@dataclass(frozen=True)
class CompressedMap:
    """A label map at the learner's resolution, and the size in pixels of the image that it is of."""

    content: bytes
    width: int
    height: int
    original_width: int
    original_height: int

    @classmethod
    def of(cls, values: LabelMap, original_size: tuple[int, int]) -> Self:
        height, width = values.shape
        return cls(zlib.compress(values.tobytes(), 1), width, height, *original_size)

    def values(self) -> LabelMap:
        return np.frombuffer(zlib.decompress(self.content), np.uint8).reshape(self.height, self.width)


@dataclass(frozen=True)
class MaskAnswers:
    """The likeliest class at each pixel, and every member's class probabilities at some.

    classes: the learner's. background: whether it knows that a pixel may be of none of them.
    samples: (members, images, cells, pixels, values) probabilities at the same number of pixels in each cell of a grid
        that covers the image, whatever its size. The values are the background, where there is one, and the classes.
    confidences: (images, values) mean probability of each where it is the likeliest; 0 where it nowhere is.
    maps: the likeliest, as `label_map` has it.
    """

    classes: tuple[str, ...]
    background: bool
    samples: NDArray[np.float16]
    confidences: NDArray[np.float32]
    maps: tuple[CompressedMap, ...]

    def __len__(self) -> int:
        return len(self.maps)

    def take(self, positions: NDArray[np.int64]) -> Self:
        """The answers about some of the images."""
        return type(self)(
            self.classes,
            self.background,
            self.samples[:, positions],
            self.confidences[positions],
            tuple(self.maps[position] for position in positions),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The answers of several batches as one; at least one part."""
        return cls(
            parts[0].classes,
            parts[0].background,
            np.concatenate([part.samples for part in parts], axis=1),
            np.concatenate([part.confidences for part in parts]),
            tuple(one for part in parts for one in part.maps),
        )

    def label_map(self, position: int) -> LabelMap:
        """The likeliest class at each pixel of an image, at the learner's resolution."""
        return self.maps[position].values()

    def pool_fields(self) -> Mapping[str, Any]:
        """The probability that a class is in the image, and as units its cells, whose own units are their pixels.

        A class is in an image as far as it is in the cell where it is likeliest. A cell's probabilities are the
        mean over its pixels.
        """
        members, images, cells, pixels, values = self.samples.shape
        names = ("background", *self.classes) if self.background else self.classes
        of_pixels = self.samples.astype(np.float32)
        of_cells = of_pixels.mean(axis=3)
        present = of_cells.max(axis=2)[:, :, values - len(self.classes) :]
        pixel_pool = Pool(
            images * cells * pixels,
            committee=of_pixels.reshape(members, -1, values),
            classes=names,
        )
        cell_pool = Pool(
            images * cells,
            committee=of_cells.reshape(members, -1, values),
            units=Units(pixel_pool, np.arange(images * cells).repeat(pixels)),
            classes=names,
        )
        return {"committee": present, "units": Units(cell_pool, np.arange(images).repeat(cells))}

    def prediction(self, position: int) -> Prediction:
        """One region for each class found, at the size of the original image; specks go to what surrounds them."""
        compressed = self.maps[position]
        size = compressed.original_width, compressed.original_height
        values = without_specks(compressed.values())
        found = [int(value) for value in np.unique(values) if value != BACKGROUND]
        confidences = self.confidences[position]
        first = len(confidences) - len(self.classes)
        regions = [_bitmap(values == value, self.classes[value - 1], size) for value in found]
        shares = np.bincount(values.ravel(), minlength=1 + len(self.classes))[1 - first :] / values.size
        return Prediction(
            MaskTarget(tuple(regions), *size),
            [min(1.0, float(confidences[value - 1 + first])) for value in found],
            min(1.0, float(shares @ confidences)),
            size,
        )


def without_specks(values: LabelMap) -> LabelMap:
    """The label map in which connected parts below the share `SPECK` take the value of the nearest larger part."""
    small = np.zeros(values.shape, np.bool_)
    for value in np.unique(values):
        parts, _ = ndimage.label(values == value)
        small |= (np.bincount(parts.ravel()) < SPECK * values.size)[parts] & (parts > 0)
    if not small.any() or small.all():
        return values
    nearest = ndimage.distance_transform_edt(small, return_distances=False, return_indices=True)
    result: LabelMap = values[tuple(nearest)]
    return result


def _bitmap(mask: NDArray[np.bool_], label: str, size: tuple[int, int]) -> Bitmap:
    """The region enlarged to `size` (width, height), its border half-way between pixels inside and outside.

    Transposed, so that the columns, along which run lengths go, lie one after the other without another copy.
    """
    width, height = size
    transposed = Image.fromarray(mask.T.astype(np.uint8) * 255)
    enlarged = np.asarray(transposed.resize((height, width), Image.Resampling.BILINEAR))
    encoded = run_lengths.encode((enlarged >= 128).view(np.uint8).T)
    return Bitmap(label, encoded["counts"].decode(), width, height)
