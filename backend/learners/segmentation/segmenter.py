"""Semantic segmentation: which class each pixel of an image is of.

The members of the committee are Monte-Carlo dropout draws (Gal & Ghahramani, ICML 2016, "Dropout as a Bayesian
approximation") before the last layer: the network looks at an image once, and each member is a choice of the features
that it may use. The choice is kept with the network and is the same for all images.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from backend.learners.backbones import SCRATCH, known
from backend.learners.embedding import AUTO
from backend.learners.learner import LabeledImages
from backend.learners.segmentation.answers import CompressedMap, MaskAnswers
from backend.learners.segmentation.network import CHANNELS, DROPPED, STRIDE, SegmentationNetwork, new_network
from backend.learners.segmentation.rendering import BACKGROUND, IGNORED, LabelMap, label_map
from backend.learners.segmentation.training import train
from backend.learners.threads import threads_for
from backend.learners.weights import DamagedWeights, load_weights, save_weights

FILE = "segmenter.safetensors"
# Pixels of the longer side of an image as the network sees it, at the most.
CPU_SIDE, GPU_SIDE = 192, 512
# A smaller share of the training set's pixels is slivers between regions that were painted by hand.
BACKGROUND_SHARE = 0.01
CELLS = 8  # a side of the grid that covers an image
SAMPLES = 2  # a side, in each cell


@dataclass(frozen=True)
class PreparedImage:
    """pixels: (height, width, 3), both multiples of 32. original_size: width and height of the image, in pixels."""

    pixels: NDArray[np.uint8]
    original_size: tuple[int, int]


class Segmenter:
    """A segmentation network, on the GPU where there is one.

    size: pixels of the longer side of an image as the network sees it, at the most.
    members: (members, channels), by what each member multiplies the features that the last layer is given.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        background: bool,
        network: SegmentationNetwork,
        members: Tensor,
        size: int,
    ) -> None:
        self.classes = classes
        self.size = size
        self._background = background
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = network.eval().to(self._device)
        self._members = members.to(self._device)

    def prepare(self, image: Image.Image) -> PreparedImage:
        """The image as `answers` takes it. Its sides keep their proportion as far as multiples of 32 allow."""
        width, height = image.info.get("original_size", image.size)
        return PreparedImage(_resized(image, self.size), (int(width), int(height)))

    def answers(self, prepared: Sequence[PreparedImage]) -> MaskAnswers:
        """What it says of at least one image; those of the same size are looked at together."""
        by_size = defaultdict(list)
        for position, image in enumerate(prepared):
            by_size[image.pixels.shape].append(position)
        parts = [self._look([prepared[position] for position in positions]) for positions in by_size.values()]
        order = np.argsort(np.concatenate(list(by_size.values())))
        return MaskAnswers.concatenate(parts).take(order)

    def _look(self, images: Sequence[PreparedImage]) -> MaskAnswers:
        pixels = torch.from_numpy(np.stack([image.pixels for image in images])).to(self._device)
        height, width = pixels.shape[1:3]
        with torch.inference_mode(), threads_for(prod(pixels.shape[:3])):
            features = self._network.features(
                self._network.normalised(pixels.permute(0, 3, 1, 2).contiguous().float().div_(255))
            )
            logits = self._network.last(features)
            upsampled = functional.interpolate(logits, size=(height, width), mode="bilinear")
            likeliest = _likeliest(upsampled)
            confidences = _confidences(logits)
            samples = self._samples(features)
        maps = (likeliest + self._first).cpu().numpy()
        return MaskAnswers(
            self.classes,
            self._background,
            samples.half().cpu().numpy(),
            confidences.cpu().numpy(),
            tuple(
                CompressedMap.of(values, image.original_size)
                for values, image in zip(maps, images, strict=True)
            ),
        )

    @property
    def _first(self) -> int:
        """What the network's first value is in a label map."""
        return 0 if self._background else 1

    def _samples(self, features: Tensor) -> Tensor:
        """(members, images, cells, pixels, values) probabilities, of each member, at pixels that lie on a grid."""
        grid = CELLS * SAMPLES
        rows, columns = (((torch.arange(grid) + 0.5) * (side / grid)).long() for side in features.shape[2:])
        at = features[:, :, rows][:, :, :, columns].flatten(2).transpose(1, 2)  # (images, grid², channels)
        last = self._network.last
        weight = self._members[:, None] * last.weight.flatten(1)  # (members, values, channels)
        logits = (at @ weight.flatten(0, 1).T).reshape(len(at), grid**2, *weight.shape[:2]) + last.bias
        samples = logits.softmax(dim=-1).permute(2, 0, 1, 3)  # (members, images, grid², values)
        cells = samples.reshape(*samples.shape[:2], CELLS, SAMPLES, CELLS, SAMPLES, -1).transpose(3, 4)
        by_cell: Tensor = cells.reshape(*samples.shape[:2], CELLS**2, SAMPLES**2, -1)
        return by_cell

    def save(self, directory: Path) -> None:
        """Write the learner into `directory`, replacing the one there in a single step."""
        arrays = {name: tensor.cpu().numpy() for name, tensor in self._network.state_dict().items()}
        description = {
            "classes": self.classes,
            "background": self._background,
            "encoder": self._network.encoder_name,
            "size": self.size,
        }
        save_weights(directory / FILE, arrays | {"members": self._members.cpu().numpy()}, description)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote. Raises FileNotFoundError and `weights.DamagedWeights`."""
        path = directory / FILE
        arrays, description = load_weights(path)
        try:
            classes, background = tuple(description["classes"]), bool(description["background"])
            encoder = description["encoder"]
            encoder = encoder if encoder == SCRATCH else known(encoder)
            network = SegmentationNetwork(encoder, len(classes) + background)
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
            members = tensors.pop("members")
            network.load_state_dict(tensors)
        except (KeyError, TypeError, RuntimeError) as error:
            raise DamagedWeights(f"{path} is damaged: delete it and it is made anew ({error})") from error
        return cls(classes, background, network, members, int(description["size"]))


def fit_segmenter(
    images: LabeledImages,
    classes: Sequence[str],
    *,
    members: int,
    seed: int,
    backbone: str = AUTO,
    on_progress: Callable[[float], None] | None = None,
) -> Segmenter:
    """Train on images whose targets are of `MaskTarget`.

    backbone: "auto" or the name of a timm model; see `new_network`. on_progress: is told the share that is done. The
    background is something to learn unless hardly a pixel is of it: a set whose images are painted throughout has none.
    The same images and seed give the same segmenter on a CPU.

    Raises ValueError where there is no class, no image, or no pixel that is not ignored, and
    `embedding.BackboneUnavailable` for a named backbone that cannot be had.
    """
    if not classes or not len(images):
        raise ValueError("there is nothing to learn to segment: give at least one class and one image")
    on_gpu = torch.cuda.is_available()
    size = GPU_SIDE if on_gpu else CPU_SIDE
    pixels, maps = _rendered(images, classes, size)
    counts = np.sum([np.bincount(values.ravel(), minlength=IGNORED + 1) for values in maps], axis=0)
    counted = counts[:IGNORED].sum()
    if not counted:
        raise ValueError("every pixel of every image is to be ignored: label some region")
    background = bool(counts[BACKGROUND] >= BACKGROUND_SHARE * counted) or not counts[1:IGNORED].any()
    if not background:  # the network's values start at the first class
        maps = [
            np.where(values == BACKGROUND, IGNORED, values - 1 + (values == IGNORED)).astype(np.uint8)
            for values in maps
        ]
    # What libraries draw at random, the first weights and dropout, comes from the global generator.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = new_network(backbone, len(classes) + background)
        network.to("cuda" if on_gpu else "cpu")
        train(network, pixels, maps, seed, on_progress)
    kept = torch.rand(members, CHANNELS, generator=torch.Generator().manual_seed(seed)) >= DROPPED
    return Segmenter(tuple(classes), background, network, kept / (1 - DROPPED), size)


def working_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height at which the network sees an image: those it has, or `side` pixels on the longer side.

    Rounded to multiples of `STRIDE`, so that nothing need be filled up.
    """
    scale = min(1.0, side / max(width, height)) / STRIDE
    return max(1, round(width * scale)) * STRIDE, max(1, round(height * scale)) * STRIDE


def _rendered(
    images: LabeledImages, classes: Sequence[str], side: int
) -> tuple[list[NDArray[np.uint8]], list[LabelMap]]:
    pixels, maps = [], []
    for position, target in enumerate(images.targets):
        pixels.append(_resized(images.load(position), side))
        height, width = pixels[-1].shape[:2]
        maps.append(label_map(target, classes, width, height))
    return pixels, maps


def _resized(image: Image.Image, side: int) -> NDArray[np.uint8]:
    if image.mode != "RGB":  # converting copies, even where there is nothing to convert
        image = image.convert("RGB")
    size = working_size(*image.size, side)
    return np.array(image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))


def _likeliest(logits: Tensor) -> Tensor:
    """(images, height, width) bytes: the value of the highest logit; on a CPU ten times as fast as `argmax`."""
    numbers = torch.arange(logits.shape[1], dtype=torch.uint8, device=logits.device)[:, None, None]
    return ((logits == logits.amax(dim=1, keepdim=True)) * numbers).amax(dim=1)


def _confidences(logits: Tensor) -> Tensor:
    """(images, values) mean probability of each value where it is the likeliest; 0 where it nowhere is."""
    highest, likeliest = logits.softmax(dim=1).flatten(2).max(dim=1)
    none = logits.new_zeros(logits.shape[:2])
    counts = none.scatter_add(1, likeliest, torch.ones_like(highest))
    return none.scatter_add(1, likeliest, highest) / counts.clamp(min=1)
