"""Made-up embeddings of faces: people stand apart in some directions, and vary the more in others."""

import numpy as np
from numpy.typing import NDArray

from backend.targets import ChoiceTarget

SEPARATING, MISLEADING, DIMENSIONS = 12, 4, 64


def embeddings(people: NDArray[np.int64], seed: int, spread: float = 0.3) -> NDArray[np.float32]:
    """(faces, dimensions) of length 1. People's centres are the same for every seed; light and pose are not."""
    centres = np.random.default_rng(99).normal(size=(200, SEPARATING))
    rng = np.random.default_rng(seed)
    rows = np.zeros((len(people), DIMENSIONS))
    rows[:, :SEPARATING] = centres[people] + spread * rng.normal(size=(len(people), SEPARATING))
    rows[:, SEPARATING : SEPARATING + MISLEADING] = 4 * rng.normal(size=(len(people), MISLEADING))
    rows += 0.1 * rng.normal(size=rows.shape) + 0.5
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def named(people: NDArray[np.int64]) -> list[ChoiceTarget]:
    return [said(f"person {index:03}") for index in people]


def said(*names: str) -> ChoiceTarget:
    """One annotator for each name."""
    return ChoiceTarget({name: names.count(name) / len(names) for name in names}, max(1, len(names)), False)
