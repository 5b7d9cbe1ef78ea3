"""Strategies are tried on made-up images, so that one that cannot rank is told of before the work begins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from backend.learners.tasks import Question, has_several_classes, looks_at_pixels
from backend.loop.pool import Labeled, make_pool
from backend.simulation.dataset import Dataset
from backend.targets import Prediction
from strategies import Pool, Units, Validation, Verification
from strategies import strategy as parse_strategy

DIMENSIONS = 4
PARTS = 3  # units of an image, and units of a unit


def try_out(spec: str, dataset: Dataset, question: Question) -> None:
    """Have a strategy rank a handful of images. Raises ValueError, with the reason, where it cannot."""
    size, classes = min(8, len(dataset)), dataset.classes
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(size, DIMENSIONS)).astype(np.float32)
    groups = {name: values[:size] for name, values in dataset.groups.items()}
    strategy = parse_strategy(spec)
    answers = _MadeUp(_fields(question, len(dataset.classes), size, rng))
    try:
        pool = make_pool(
            strategy,
            question=question,
            classes=classes,
            embeddings=vectors,
            features=vectors,
            groups=groups,
            labeled=Labeled(vectors, dataset.targets[:size], groups),
            answers=answers,
            labeled_answers=lambda: answers,
            validation=lambda: Validation(vectors, np.arange(size) % 2 == 0),
        )
        strategy.rank(pool, 1, batch_size=1, seed=0)
    except ValueError as error:
        raise ValueError(f"The strategy {spec} cannot rank {dataset.name}: {error}") from error


@dataclass(frozen=True)
class _MadeUp:
    """Answers of no learner."""

    fields: Mapping[str, Any]

    def __len__(self) -> int:
        return int(self.fields["committee"].shape[1])

    def take(self, positions: NDArray[np.int64]) -> Self:
        raise NotImplementedError

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        raise NotImplementedError

    def pool_fields(self) -> Mapping[str, Any]:
        return self.fields

    def prediction(self, position: int) -> Prediction:
        raise NotImplementedError


def _fields(question: Question, classes: int, size: int, rng: np.random.Generator) -> dict[str, Any]:
    several = has_several_classes(question)
    fields: dict[str, Any] = {"committee": _committee(size, classes, several, rng)}
    if question.task == "face":
        similarities = rng.uniform(-1, 1, (size, classes)).astype(np.float32)
        fields["verification"] = Verification(similarities, 0.5)
    if looks_at_pixels(question):
        inner = _units(PARTS * size, classes, rng, {})
        fields["units"] = _units(size, classes, rng, {"units": inner})
    return fields


def _units(owners: int, classes: int, rng: np.random.Generator, more: Mapping[str, Any]) -> Units:
    size = PARTS * owners
    vectors = rng.normal(size=(size, DIMENSIONS)).astype(np.float32)
    pool = Pool(
        size=size,
        committee=_committee(size, classes, True, rng),
        embeddings=vectors,
        labeled_embeddings=vectors,
        localisation=rng.uniform(size=size).astype(np.float32),
        multi_label=True,
        **more,
    )
    return Units(pool, np.repeat(np.arange(owners), PARTS))


def _committee(size: int, classes: int, several: bool, rng: np.random.Generator) -> NDArray[np.float32]:
    if several:
        return rng.uniform(size=(2, size, classes)).astype(np.float32)
    return rng.dirichlet(np.ones(classes), (2, size)).astype(np.float32)
