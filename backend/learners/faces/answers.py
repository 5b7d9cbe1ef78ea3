"""What a face recogniser says of faces: who each is likest, or that it is nobody known."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from backend.targets import ChoiceTarget, Prediction
from strategies.pool import Verification


@dataclass(frozen=True)
class FaceAnswers:
    """classes: names of the people known. threshold: similarity from which a face is of one of them.
    scale: what cosines are multiplied by before the softmax over people.

    probabilities: (members, faces, people) of each person, given that the face is of one of them.
    similarities: (faces, people) cosine between the face and the person's centre, mean of the members.
    features: (faces, dimensions) in half precision, where the face is in the metric space: of length 1, mean of the
        members.
    """

    classes: tuple[str, ...]
    threshold: float
    scale: float
    probabilities: NDArray[np.float32]
    similarities: NDArray[np.float32]
    features: NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.similarities)

    def take(self, positions: NDArray[np.int64]) -> Self:
        """The answers about some of the faces."""
        return replace(
            self,
            probabilities=self.probabilities[:, positions],
            similarities=self.similarities[positions],
            features=self.features[positions],
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The answers of several batches as one."""
        return replace(
            parts[0],
            probabilities=np.concatenate([part.probabilities for part in parts], axis=1),
            similarities=np.concatenate([part.similarities for part in parts]),
            features=np.concatenate([part.features for part in parts]),
        )

    def pool_fields(self) -> Mapping[str, Any]:
        """The committee, the verification, and the faces' places in the metric space."""
        return {
            "committee": self.probabilities,
            "verification": Verification(self.similarities, self.threshold),
            "features": self.features,
        }

    def prediction(self, position: int) -> Prediction:
        """The person likest the face, or, below the threshold, an answer without a vote: nobody known.

        The confidence in somebody is the chance that the face is of anybody known, times that it is of this person;
        the confidence in nobody is the chance that it is of nobody known. That chance is a logistic function of the
        similarity's distance to the threshold.
        """
        likest = int(self.similarities[position].argmax())
        excess = float(self.similarities[position, likest]) - self.threshold
        is_known = 1 / (1 + math.exp(-self.scale * excess))
        if excess < 0:
            return Prediction(ChoiceTarget({}, 1, False), (), 1 - is_known)
        confidence = min(1.0, is_known * float(self.probabilities[:, position, likest].mean()))
        return Prediction(ChoiceTarget({self.classes[likest]: 1.0}, 1, False), (confidence,), confidence)
