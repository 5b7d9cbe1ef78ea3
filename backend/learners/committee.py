"""The committees that a project can choose from, by the name that its setting `learner` gives them."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from backend.learners.class_answers import ClassAnswers
from backend.learners.classification import FILE, HeadCommittee
from backend.learners.kinds import CommitteeKind
from backend.learners.multilayer import MultilayerCommittee
from backend.learners.weights import load_weights


class Committee(Protocol):
    """Classifiers whose average is the prediction and whose disagreement is the uncertainty."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def multi_label(self) -> bool: ...

    @property
    def members(self) -> int: ...

    def probabilities(self, embeddings: NDArray[Any]) -> NDArray[np.float32]:
        """Each member's class probabilities for `embeddings` (n, dimension): (members, n, classes)."""

    def answers(self, embeddings: NDArray[np.float32]) -> ClassAnswers:
        """The same, as the loop takes it."""

    def save(self, directory: Path) -> None:
        """Write the committee into `directory`, replacing the one there, of whatever kind, in a single step."""


def fit_committee(
    learner: CommitteeKind,
    embeddings: NDArray[Any],
    targets: NDArray[Any],
    classes: tuple[str, ...],
    *,
    multi_label: bool,
    members: int,
    seed: int,
) -> Committee:
    """Fit a committee of the kind `learner`; see `HeadCommittee.fit` for what it is fit on, and what is refused."""
    if learner == "linear":
        return HeadCommittee.fit(
            embeddings, targets, classes, multi_label=multi_label, members=members, seed=seed
        )
    return MultilayerCommittee.fit(
        embeddings,
        targets,
        classes,
        dropout=learner == "dropout",
        multi_label=multi_label,
        members=members,
        seed=seed,
    )


def load_committee(directory: Path) -> Committee:
    """Read what `save` wrote; the file tells of which kind it is.

    Raises FileNotFoundError and `weights.DamagedWeights`.
    """
    arrays, _ = load_weights(directory / FILE)
    return MultilayerCommittee.load(directory) if "hidden" in arrays else HeadCommittee.load(directory)
