"""Object detection: which objects are in an image, and where."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from backend.learners.backbones import empty_pyramid, load_pyramid
from backend.learners.coco import COCO, coco_weights
from backend.learners.detection import images as prepared_images
from backend.learners.detection.answers import BoxAnswers
from backend.learners.detection.evaluation import best_threshold, match, true_boxes
from backend.learners.detection.images import PreparedImage, stack
from backend.learners.detection.network import Network
from backend.learners.detection.one_stage import OneStage
from backend.learners.detection.training import longest_side, train
from backend.learners.detection.two_stage import TwoStage
from backend.learners.embedding import AUTO
from backend.learners.kinds import DetectorKind
from backend.learners.learner import LabeledImages
from backend.learners.threads import threads_for
from backend.learners.weights import DamagedWeights, load_weights, save_weights

FILE = "detector.safetensors"
NETWORKS: dict[str, type[OneStage] | type[TwoStage]] = {"one-stage": OneStage, "two-stage": TwoStage}
THRESHOLD_IMAGES = 64  # on which the threshold is set
BATCH = 8


class Detector:
    """A detection network, on the GPU where there is one.

    size: pixels of the longer side of an image as the network sees it. threshold: the network's score that comes out as
    a probability of 0.5. Its scores rank boxes, but are no probabilities: those of a network that has seen little are
    low throughout.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        kind: DetectorKind,
        network: Network,
        size: int,
        threshold: float = 0.5,
    ) -> None:
        self.classes = classes
        self.size = size
        self.threshold = threshold
        self._kind = kind
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = network.eval().to(self._device).to(memory_format=torch.channels_last)

    def prepare(self, image: Image.Image) -> PreparedImage:
        """The image as `answers` takes it."""
        return prepared_images.prepare(image, self.size)

    def answers(self, prepared: Sequence[PreparedImage]) -> BoxAnswers:
        """What it says of at least one image; those of the same canvas are looked at together."""
        by_canvas = defaultdict(list)
        for position, image in enumerate(prepared):
            by_canvas[image.canvas].append(position)
        parts = [
            self._look([prepared[position] for position in positions]) for positions in by_canvas.values()
        ]
        order = np.argsort(np.concatenate(list(by_canvas.values())))
        return BoxAnswers.concatenate(parts).take(order)

    def _look(self, images: list[PreparedImage]) -> BoxAnswers:
        sizes = torch.tensor([image.pixels.shape[:2] for image in images], device=self._device)
        pixels = torch.from_numpy(stack(images)).to(self._device)
        with torch.inference_mode(), threads_for(prod(pixels.shape[:3])):
            found = self._network(pixels.permute(0, 3, 1, 2), sizes)  # stays channels last
            shares = found.boxes / sizes.flip(1).repeat(1, 2)[found.images]
            probabilities = _calibrated(found.probabilities, self.threshold)
        return BoxAnswers(
            classes=self.classes,
            sizes=np.array([image.original_size for image in images], np.int32),
            owners=found.images.cpu().numpy(),
            places=shares.clamp(0, 1).cpu().numpy(),
            committee=probabilities.half().cpu().numpy(),
            localisation=found.localisation.half().cpu().numpy(),
            embeddings=found.embeddings.half().cpu().numpy(),
        )

    def save(self, directory: Path) -> None:
        """Write the detector into `directory`, replacing the one there in a single step."""
        arrays = {name: value.cpu().numpy() for name, value in self._network.state_dict().items()}
        description = {
            "classes": self.classes,
            "kind": self._kind,
            "backbone": self._network.pyramid.name,
            "size": self.size,
            "threshold": self.threshold,
        }
        save_weights(directory / FILE, arrays, description)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote. Raises FileNotFoundError and `weights.DamagedWeights`."""
        arrays, description = load_weights(directory / FILE)
        try:
            classes, kind = tuple(description["classes"]), description["kind"]
            pyramid = empty_pyramid(description["backbone"])
            members = arrays["members"].shape[0]
            network = NETWORKS[kind](pyramid, torch.zeros(len(classes)), members)
            network.load_state_dict({name: torch.from_numpy(value) for name, value in arrays.items()})
            return cls(classes, kind, network, description["size"], description["threshold"])
        except (KeyError, TypeError, RuntimeError) as error:
            raise DamagedWeights(f"{directory / FILE} is damaged: train anew ({error})") from error


def fit_detector(
    images: LabeledImages,
    classes: Sequence[str],
    *,
    members: int,
    seed: int,
    detector: DetectorKind = "one-stage",
    backbone: str = AUTO,
    on_progress: Callable[[float], None] | None = None,
) -> Detector:
    """Train a detector on images whose targets are `BoxTarget`s.

    members: dropout draws of the last layers, 1 or more. backbone: see `load_pyramid`. on_progress: is told the share
    that is done. The same images and seed give the same detector. A class without a box is not found. Raises ValueError
    where there is no image or no class, and BackboneUnavailable.
    """
    if not len(images):
        raise ValueError("there is no label to learn from")
    if not classes:
        raise ValueError("there is no class to find")
    counts = Counter(box.label for target in images.targets for box in target.boxes)
    size = longest_side(images, classes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        pyramid = load_pyramid(backbone)
        network = NETWORKS[detector](pyramid, torch.tensor([counts[name] for name in classes]), members)
        if pyramid.name == COCO and isinstance(network, OneStage):
            network.load_head(coco_weights())
        fitted = Detector(tuple(classes), detector, network, size)
        train(network, images, classes, size, on_progress)
    fitted.threshold = _threshold(fitted, images)
    return fitted


def _threshold(detector: Detector, images: LabeledImages) -> float:
    """The score from which on a box is shown: the one of the highest F1 on some of the images."""
    positions = range(min(len(images), THRESHOLD_IMAGES))
    parts = []
    for start in positions[::BATCH]:
        batch = positions[start : start + BATCH]
        parts.append(detector.answers([detector.prepare(images.load(position)) for position in batch]))
    answers = BoxAnswers.concatenate(parts)
    found = [answers.boxes(position) for position in positions]
    actual = [true_boxes(images.targets[position], detector.classes) for position in positions]
    return best_threshold(match(found, actual, len(detector.classes)))


def _calibrated(scores: Tensor, threshold: float) -> Tensor:
    """Scores as probabilities, 0.5 at the threshold: their logits less that of the threshold."""
    for_it, against = scores * (1 - threshold), (1 - scores) * threshold
    return for_it / (for_it + against)
