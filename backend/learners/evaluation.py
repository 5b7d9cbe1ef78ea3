"""How good a model is, measured on tasks it was not trained on."""

from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.learners.learner import Evaluation

# A probability of exactly 0 for what turned out true would make the log loss infinite.
LEAST_PROBABILITY = 1e-7


def accuracy_interval(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927); (0, 1) where nothing was counted."""
    if not 0 <= correct <= total:
        raise ValueError(f"correct must lie between 0 and total, got {correct} of {total}")
    if total == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = correct / total
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    # The exact bounds at 0 and 1, which rounding would miss by an ulp.
    return 0.0 if correct == 0 else centre - half, 1.0 if correct == total else centre + half


def evaluate(
    probabilities: NDArray[Any], targets: NDArray[Any], classes: tuple[str, ...], multi_label: bool
) -> Evaluation:
    """Compare `probabilities` (n, classes) with the annotators' vote shares `targets` (n, classes).

    A task's truth is the class most voted for (multi-label: every class that at least half voted for).
    Where the vote is tied, the prediction is right if it agrees with either side. The score is the accuracy: the share
    of tasks predicted right, multi-label in every class. A class's own score is its recall. The details hold the
    log loss: cross-entropy against the vote shares, in nats a task (multi-label: a task and class).

    Raises ValueError where the shapes differ or there is no task.
    """
    if probabilities.shape != targets.shape or probabilities.shape[1:] != (len(classes),):
        raise ValueError(
            f"probabilities {probabilities.shape} and targets {targets.shape} "
            f"must both be (tasks, {len(classes)})"
        )
    if len(targets) == 0:
        raise ValueError("there is no task to evaluate on")
    p = np.clip(probabilities.astype(np.float64), LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    if multi_label:
        log_loss = -np.mean(targets * np.log(p) + (1 - targets) * np.log(1 - p))
    else:
        log_loss = -np.mean((targets * np.log(p)).sum(axis=1))
    predicted, actual = _compared(probabilities, targets, multi_label)
    correct, total = int((predicted == actual).all(axis=1).sum()), len(targets)
    counts = zip(classes, actual.sum(0), predicted.sum(0), (actual & predicted).sum(0), strict=True)
    return Evaluation(
        metric="accuracy",
        score=correct / total,
        interval=accuracy_interval(correct, total),
        total=total,
        classes=tuple(_of_class(name, int(a), int(p), int(both)) for name, a, p, both in counts),
        details={"log loss": float(log_loss)},
    )


def _of_class(name: str, actual: int, predicted: int, correct: int) -> dict[str, Any]:
    """One class's tasks: how many truly have it, how many are predicted to, and how many both."""
    return {
        "name": name,
        "actual": actual,
        "predicted": predicted,
        "correct": correct,
        "score": correct / actual if actual else None,
        "precision": correct / predicted if predicted else None,
    }


def answered_right(
    probabilities: NDArray[Any], targets: NDArray[Any], multi_label: bool
) -> NDArray[np.bool_]:
    """(n,) whether each of the predictions that `evaluate` compares is right."""
    predicted, actual = _compared(probabilities, targets, multi_label)
    right: NDArray[np.bool_] = (predicted == actual).all(axis=1)
    return right


def _compared(
    probabilities: NDArray[Any], targets: NDArray[Any], multi_label: bool
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(n, classes) which classes are predicted and which are true; a tied vote is true as it is predicted."""
    if multi_label:
        predicted = probabilities >= 0.5
        return predicted, np.where(targets == 0.5, predicted, targets > 0.5)
    classes = targets.shape[1]
    predicted = _one_hot(probabilities.argmax(axis=1), classes)
    agrees = (predicted & (targets == targets.max(axis=1, keepdims=True))).any(axis=1, keepdims=True)
    return predicted, np.where(agrees, predicted, _one_hot(targets.argmax(axis=1), classes))


def _one_hot(indices: NDArray[np.intp], classes: int) -> NDArray[np.bool_]:
    return np.eye(classes, dtype=np.bool_)[indices]
