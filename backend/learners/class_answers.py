"""What a classifier of whole images says of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from backend.targets import ChoiceTarget, Prediction


@dataclass(frozen=True)
class ClassAnswers:
    """Each member's class probabilities: (members, images, classes)."""

    classes: tuple[str, ...]
    multi_label: bool
    probabilities: NDArray[np.float32]

    def __len__(self) -> int:
        return self.probabilities.shape[1]

    def take(self, positions: NDArray[np.int64]) -> Self:
        """The answers about some of the images."""
        return replace(self, probabilities=self.probabilities[:, positions])

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The answers of several batches as one."""
        return replace(parts[0], probabilities=np.concatenate([p.probabilities for p in parts], axis=1))

    def pool_fields(self) -> Mapping[str, Any]:
        """The committee."""
        return {"committee": self.probabilities}

    def prediction(self, position: int) -> Prediction:
        """The likeliest class by the mean of the committee, or, of several, all that are likelier than not."""
        mean = self.probabilities[:, position].mean(axis=0)
        if self.multi_label:
            chosen = np.flatnonzero(mean >= 0.5)
            confidence = float(np.maximum(mean, 1 - mean).min())
        else:
            chosen = mean.argmax(keepdims=True)
            confidence = float(mean[chosen[0]])
        votes = {self.classes[place]: 1.0 for place in chosen}
        return Prediction(
            ChoiceTarget(votes, 1, self.multi_label),
            [min(1.0, float(mean[place])) for place in chosen],
            min(1.0, confidence),
        )
