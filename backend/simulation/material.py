"""What a learner is given of a simulation's images, and what it says of them, whatever its task."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.engine.local import map_images
from backend.engine.work import Work
from backend.learners.learner import Answers, EmbeddingLearner, Learner, PixelLearner
from backend.learners.tasks import Examples, Question, looks_at_pixels
from backend.simulation.dataset import Dataset
from backend.simulation.embeddings import Embeddings
from backend.simulation.hard_cases import Images, near_duplicate, truth_of
from backend.targets import ChoiceTarget, Target

PIXEL_BATCH = 8
TRUTHS_KEPT = 4_096  # in memory, the last used ones; a mask takes some kilobytes


class Material:
    """Images by their embeddings and, for learners that look at them, by themselves.

    dataset: for learners that look at the images; the others do without.
    """

    def __init__(self, question: Question, embeddings: Embeddings, dataset: Dataset | None) -> None:
        self.question, self._embeddings, self._dataset = question, embeddings, dataset
        self._vectors = embeddings.vectors()
        self._truth = lru_cache(TRUTHS_KEPT)(self._read_truth)

    def vectors(self, images: Images) -> NDArray[np.float32]:
        """(images, dimensions)."""
        return self._vectors[self._embeddings.rows(images)]

    def targets(self, images: Images) -> list[Target]:
        """What an annotator says of them."""
        if looks_at_pixels(self.question):
            return [
                self._truth(int(position), int(mistake))
                for position, mistake in zip(images.positions, images.mistakes, strict=True)
            ]
        return [
            ChoiceTarget(
                {self.question.classes[place]: float(row[place]) for place in np.flatnonzero(row)},
                1,
                self.question.multiple,
            )
            for row in images.targets
        ]

    def examples(self, images: Images) -> Examples:
        """For training."""
        return Examples(
            self.vectors(images),
            lambda place: self._load(images, place),
            self.targets(images),
            _embeds_nothing,
        )

    def answers(self, learner: Learner, images: Images) -> Answers:
        """What a learner says of some images, at least one."""
        if not looks_at_pixels(self.question):
            return cast("EmbeddingLearner", learner).answers(self.vectors(images))
        looking = cast("PixelLearner", learner)
        parts: list[Answers] = []
        work: Work[int, Any, Answers] = Work(
            lambda place: looking.prepare(self._load(images, place)), looking.answers, failures=()
        )
        for batch in map_images(range(len(images)), work, batch_size=PIXEL_BATCH, loaders=1):
            assert batch.outputs is not None
            parts.append(batch.outputs)
        return type(parts[0]).concatenate(parts)

    def _read_truth(self, position: int, mistake: int) -> Target:
        return truth_of(self._looked_at, position, mistake)

    def _load(self, images: Images, place: int) -> Image.Image:
        position, variant = int(images.positions[place]), int(images.variants[place])
        image = self._looked_at.load(position)
        return (near_duplicate(image, position, variant, self.question.task) if variant else image).convert(
            "RGB"
        )

    @property
    def _looked_at(self) -> Dataset:
        assert self._dataset is not None
        return self._dataset


def _embeds_nothing(images: Sequence[Image.Image]) -> NDArray[np.float32]:
    raise NotImplementedError("no dataset has names in boxes")
