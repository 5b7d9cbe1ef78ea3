"""Face recognition in an open set: who is it, if anybody known."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from backend.learners.faces.answers import FaceAnswers
from backend.learners.faces.calibration import Calibration, calibrate, deal_folds
from backend.learners.faces.metric_learning import Labels, MetricSpace, centres, learn_space
from backend.learners.weights import load_weights, save_weights
from backend.targets import ChoiceTarget

FILE = "faces.safetensors"
BLOCK = 8192  # faces looked at together


@dataclass(frozen=True)
class FaceRecogniser:
    """Compares faces with the centre of each person known, in metric spaces of several members.

    Members weigh the labels by the Bayesian bootstrap (Rubin 1981): in learning their space, and in averaging a
    person's faces.

    centre: (members, people, axes), each of length 1.
    """

    classes: tuple[str, ...]
    space: MetricSpace
    centre: Tensor
    calibration: Calibration

    @property
    def threshold(self) -> float:
        """Similarity from which a face is of somebody known."""
        return self.calibration.threshold

    def answers(self, embeddings: NDArray[np.float32]) -> FaceAnswers:
        """What it says of faces with these embeddings, (faces, dimensions)."""
        blocks = range(0, max(1, len(embeddings)), BLOCK)
        return FaceAnswers.concatenate(
            [self._answers(torch.tensor(embeddings[start : start + BLOCK]).float()) for start in blocks]
        )

    def _answers(self, faces: Tensor) -> FaceAnswers:
        at = self.space.coordinates(faces)
        positions = self.space.positions(at)
        cosines = positions @ self.centre.transpose(1, 2)
        return FaceAnswers(
            self.classes,
            self.threshold,
            self.calibration.scale,
            (self.calibration.scale * cosines).softmax(dim=2).numpy(),
            cosines.mean(dim=0).numpy(),
            functional.normalize(self.space.mean_position(faces, at), dim=1).half().numpy(),
        )

    def save(self, directory: Path) -> None:
        """Write the recogniser into `directory`, replacing the one there in a single step."""
        arrays = {**vars(self.space), "centre": self.centre}
        save_weights(
            directory / FILE,
            {name: tensor.numpy() for name, tensor in arrays.items()},
            {"classes": self.classes, **vars(self.calibration)},
        )

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote. Raises FileNotFoundError and `weights.DamagedWeights`."""
        arrays, description = load_weights(directory / FILE)
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return cls(
            tuple(description["classes"]),
            MetricSpace(tensors["origin"], tensors["axes"], tensors["maps"]),
            tensors["centre"],
            Calibration(description["threshold"], description["scale"]),
        )


def fit_face_recogniser(
    embeddings: NDArray[Any], targets: Sequence[ChoiceTarget], *, members: int, seed: int
) -> FaceRecogniser:
    """Learn from embeddings (labels, dimensions) of faces and who they are said to be.

    The people known are those that have a vote, in alphabetical order. A face counts for each of several people by
    its share of the votes. The same labels and seed give the same recogniser.

    Raises ValueError where there is no label, a face has no name, or an embedding is not finite.
    """
    _check(embeddings, targets)
    classes = tuple(sorted({name for target in targets for name in target.votes}))
    place = {name: index for index, name in enumerate(classes)}
    votes = [
        (row, place[name], share)
        for row, target in enumerate(targets)
        for name, share in target.votes.items()
    ]
    rows, people, shares = (torch.tensor(values) for values in zip(*votes, strict=True))
    generator = torch.Generator().manual_seed(seed)
    draws = torch.empty(members, len(embeddings)).exponential_(generator=generator)[:, rows]
    folds = deal_folds(people, generator)
    labels = Labels(
        torch.tensor(embeddings, dtype=torch.float32)[rows],
        people,
        len(classes),
        torch.cat([draws, folds.weights()]) * shares,
    )
    space = learn_space(labels)
    own = slice(members)
    calibration = calibrate(space.at(slice(members, None)), labels.at(slice(members, None)), folds, generator)
    space, labels = space.at(own), labels.at(own)
    return FaceRecogniser(
        classes, space, centres(space.positions(space.coordinates(labels.faces)), labels), calibration
    )


def _check(embeddings: NDArray[Any], targets: Sequence[ChoiceTarget]) -> None:
    """Raises ValueError for what cannot be learnt from."""
    if not len(targets):
        raise ValueError("there is no label to learn from")
    if embeddings.ndim != 2 or len(embeddings) != len(targets):
        raise ValueError(
            f"expected an embedding for each of {len(targets)} targets, got embeddings {embeddings.shape}"
        )
    if not np.isfinite(embeddings).all():
        raise ValueError("an embedding is not finite: embed its image again")
    for target in targets:
        if not target.votes or not all(name.strip() for name in target.votes):
            raise ValueError("a face has no name: write one, or leave its label out")
