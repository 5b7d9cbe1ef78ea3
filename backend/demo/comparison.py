"""What the loop's order was worth: labels against accuracy, beside random order with the same learner."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.learners.committee import fit_committee
from backend.settings import LoopSettings

RANDOM_ORDERS = 5  # averaged over


@dataclass(frozen=True)
class Row:
    """Accuracy after so many labels."""

    labels: int
    loop: float
    random: float


def compare(
    order: Sequence[int],
    truth: Mapping[int, int],
    embeddings: Mapping[int, NDArray[np.float32]],
    test: frozenset[int],
    classes: tuple[str, ...],
    checkpoints: Sequence[int],
    settings: LoopSettings,
) -> list[Row]:
    """Train the same learner on the first labels of the loop's order and of random orders.

    order: labeled task ids in the order in which they were labeled.
    truth: class index of every task. embeddings: of every task.
    test: the audit tasks; neither order trains on them, both are measured on all of them.
    settings: the loop's, which name the learner.
    """
    pool = sorted(set(truth) & set(embeddings) - test)
    chosen = [task_id for task_id in order if task_id not in test]
    measured_on = sorted(test & embeddings.keys())

    def accuracy(training: Sequence[int], seed: int) -> float:
        targets = np.eye(len(classes), dtype=np.float32)[[truth[i] for i in training]]
        committee = fit_committee(
            settings.learner,
            np.stack([embeddings[i] for i in training]),
            targets,
            classes,
            multi_label=False,
            members=settings.members,
            seed=seed,
        )
        predicted = committee.probabilities(np.stack([embeddings[i] for i in measured_on])).mean(0).argmax(1)
        return float(np.mean(predicted == [truth[i] for i in measured_on]))

    rows = []
    for labels in [labels for labels in checkpoints if labels <= len(chosen)]:
        shuffles = [np.random.default_rng(seed).permutation(pool)[:labels] for seed in range(RANDOM_ORDERS)]
        at_random = [accuracy(shuffled.tolist(), seed) for seed, shuffled in enumerate(shuffles)]
        rows.append(Row(labels, accuracy(chosen[:labels], 0), float(np.mean(at_random))))
    return rows
