"""When labeling may stop: criteria over the history of the rounds, each with its evidence in words.

A criterion knows numbers only, so the same one serves a running loop and a simulated one. A package adds criteria by
an entry point in the group `label_studio_active_learning.stopping`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from strategies.spec import Registry
from strategies.uncertainty import entropy

# Successive models make most of their mistakes on the same audit tasks. What differs between two rounds by chance is
# at least this share of the sampling variance of either accuracy.
_LEAST_NOISE = 0.1


@dataclass(frozen=True)
class Progress:
    """What is known after a round.

    labels: images labeled so far, the audit tasks among them.
    pool: unlabeled images left.
    accuracy: on the audit tasks; None where there are none.
    interval: its 95 % confidence interval.
    agreement: of this round's predictions with those of the round before on a sample of the pool, as `agreement`.
    uncertainty: of the pool, as `residual_uncertainty`.
    """

    labels: int
    pool: int
    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    agreement: float | None = None
    uncertainty: float | None = None


@runtime_checkable
class Criterion(Protocol):
    """When labeling may stop."""

    @property
    def name(self) -> str:
        """The standard name, as in a spec."""

    def evidence(self, rounds: Sequence[Progress]) -> str | None:
        """Why labeling may stop after the last of these rounds, in a clause; None: go on.

        What was not measured is no evidence. rounds: all so far, the first first.
        """


@dataclass(frozen=True)
class TargetAccuracy:
    """The accuracy is surely reached: by the lower bound of its 95 % interval.

    Raises ValueError for an accuracy that is not a share.
    """

    accuracy: float

    name = "target_accuracy"

    def __post_init__(self) -> None:
        if not 0 < self.accuracy <= 1:
            raise ValueError(f"accuracy is {self.accuracy}; write a share, such as 0.95.")

    def evidence(self, rounds: Sequence[Progress]) -> str | None:
        if not rounds or rounds[-1].accuracy is None or rounds[-1].interval is None:
            return None
        low = rounds[-1].interval[0]
        if low < self.accuracy:
            return None
        return (
            f"accuracy on the audit tasks is {rounds[-1].accuracy:.1%}, surely above {low:.1%}: "
            f"the target of {self.accuracy:.1%} is reached"
        )


@dataclass(frozen=True)
class Plateau:
    """Accuracy surely did not rise by more than `tolerance` over the last `rounds` rounds.

    The rise is that of the least-squares line of accuracy against labels: all rounds count, so one lucky round
    decides nothing. Sure means with two standard errors added, which are taken from the scatter around the line:
    the audit tasks of a round are among those of the next, so that their sampling error is in all accuracies alike
    and not in the rise, but for what the smaller sample of an earlier round adds. Where the scatter happens to be
    small, a tenth of the sampling variance stands in for it, so few audit tasks cannot show a plateau: with the
    defaults it takes some 50 at an accuracy of 0.9.

    Raises ValueError for a tolerance that is not a share, or fewer than 3 rounds.
    """

    tolerance: float = 0.03
    rounds: int = 8

    name = "plateau"

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance is {self.tolerance}; write a share, such as 0.03.")
        if self.rounds < 3:
            raise ValueError(f"rounds is {self.rounds}; a line with its scatter takes 3 or more.")

    def evidence(self, rounds: Sequence[Progress]) -> str | None:
        window = rounds[-self.rounds :]
        most = _highest_rise(window) if len(window) == self.rounds else None
        if most is None or most > self.tolerance:
            return None
        labels = window[-1].labels - window[0].labels
        return (
            f"accuracy on the audit tasks surely rose by no more than {max(most, 0):.1%} "
            f"over the last {labels} labels ({self.rounds} rounds)"
        )


def _highest_rise(window: Sequence[Progress]) -> float | None:
    """Upper confidence bound of how much accuracy rose; None where that is not measured, or nothing was labeled."""
    accuracies = np.array([p.accuracy for p in window if p.accuracy is not None])
    intervals = np.array([p.interval for p in window if p.interval is not None])
    labels = np.array([p.labels for p in window], dtype=np.float64)
    labels -= labels.mean()
    spread = float(labels @ labels)
    if len(accuracies) < len(window) or len(intervals) < len(window) or labels[-1] <= labels[0]:
        return None
    slope = labels @ accuracies / spread
    scatter = accuracies - accuracies.mean() - slope * labels
    sampling = np.square((intervals[:, 1] - intervals[:, 0]) / (2 * 1.96))
    noise = max(scatter @ scatter / (len(window) - 2), _LEAST_NOISE * sampling[-1])
    noise += np.maximum(sampling - sampling[-1], 0)
    error = float(np.square(labels / spread) @ noise) ** 0.5
    return float((labels[-1] - labels[0]) * (slope + 2 * error))


@dataclass(frozen=True)
class StablePredictions:
    """The predictions no longer change (Bloodgood & Vijay-Shanker, CoNLL 2009: stabilizing predictions).

    Cohen's kappa between successive rounds is at least `kappa`, averaged over the last `rounds` rounds.

    Raises ValueError for a kappa that is none, or fewer than 1 round.
    """

    kappa: float = 0.99
    rounds: int = 3

    name = "stable_predictions"

    def __post_init__(self) -> None:
        if not 0 < self.kappa <= 1:
            raise ValueError(f"kappa is {self.kappa}; 1 is full agreement, 0.99 the usual.")
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}; average over 1 or more.")

    def evidence(self, rounds: Sequence[Progress]) -> str | None:
        kappas = [p.agreement for p in rounds[-self.rounds :] if p.agreement is not None]
        if len(kappas) < self.rounds or np.mean(kappas) < self.kappa:
            return None
        return (
            f"predictions have settled: their agreement (kappa) from round to round was {np.mean(kappas):.3f} "
            f"over the last {self.rounds}"
        )


@dataclass(frozen=True)
class LowUncertainty:
    """The model is sure of what is left in the pool (Zhu, Wang & Hovy, COLING 2008: overall uncertainty).

    A model is often surer than it is right: combine it with a criterion that looks at accuracy.

    Raises ValueError for a threshold that is not a share.
    """

    threshold: float = 0.05

    name = "low_uncertainty"

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold}; write a share of full entropy, such as 0.05.")

    def evidence(self, rounds: Sequence[Progress]) -> str | None:
        left = rounds[-1].uncertainty if rounds else None
        if left is None or left >= self.threshold:
            return None
        return f"mean entropy over the pool is {left:.1%} of the highest there can be, below {self.threshold:.1%}"


@dataclass(frozen=True)
class Budget:
    """So many labels are there. Raises ValueError for fewer than one."""

    labels: int

    name = "budget"

    def __post_init__(self) -> None:
        if self.labels < 1:
            raise ValueError(f"labels is {self.labels}; a budget is of 1 or more.")

    def evidence(self, rounds: Sequence[Progress]) -> str | None:
        if not rounds or rounds[-1].labels < self.labels:
            return None
        return f"the budget of {self.labels} labels is used up"


@dataclass(frozen=True)
class EveryImageLabeled:
    """Nothing is left to label."""

    name = "every_image_labeled"

    def evidence(self, rounds: Sequence[Progress]) -> str | None:
        return "every image is labeled" if rounds and rounds[-1].pool == 0 and rounds[-1].labels else None


@dataclass(frozen=True)
class AnyOf:
    """One of several criteria is enough. Raises ValueError for none."""

    criteria: tuple[Criterion, ...]

    name = "any"

    def __post_init__(self) -> None:
        _check_some(self.criteria)

    def evidence(self, rounds: Sequence[Progress]) -> str | None:
        found = [criterion.evidence(rounds) for criterion in self.criteria]
        return "; ".join(e for e in found if e is not None) or None


@dataclass(frozen=True)
class AllOf:
    """Several criteria at once. Raises ValueError for none."""

    criteria: tuple[Criterion, ...]

    name = "all"

    def __post_init__(self) -> None:
        _check_some(self.criteria)

    def evidence(self, rounds: Sequence[Progress]) -> str | None:
        found = [criterion.evidence(rounds) for criterion in self.criteria]
        return None if None in found else "; ".join(e for e in found if e is not None)


def _check_some(criteria: tuple[Criterion, ...]) -> None:
    if not criteria:
        raise ValueError("criteria is empty; give one or more.")


CRITERIA = Registry(
    "stopping criterion",
    {
        "target_accuracy": TargetAccuracy,
        "plateau": Plateau,
        "stable_predictions": StablePredictions,
        "low_uncertainty": LowUncertainty,
        "budget": Budget,
        "every_image_labeled": EveryImageLabeled,
        "any": AnyOf,
        "all": AllOf,
    },
    base=Criterion,
    narrower={},
    group="label_studio_active_learning.stopping",
    plainest="plateau",
    example="{any: [{target_accuracy: 0.95}, {budget: 400}]}",
)


def criterion(spec: str | Mapping[str, Any]) -> Criterion:
    """The stopping criterion that a spec describes. Raises InvalidSpec."""
    made: Criterion = CRITERIA.make(spec)
    return made


def criterion_names() -> list[str]:
    """All criteria there are, ours and those of installed packages."""
    return CRITERIA.names()


@dataclass(frozen=True)
class Stop:
    """Where a criterion would have ended labeling: the place of the round in the history, and how it stood then."""

    round: int
    progress: Progress
    evidence: str


def what_if(rounds: Sequence[Progress], criterion: Criterion) -> Stop | None:
    """The first round after which the criterion would have said stop; None: at none of them."""
    for i, progress in enumerate(rounds):
        if (evidence := criterion.evidence(rounds[: i + 1])) is not None:
            return Stop(i, progress, evidence)
    return None


def agreement(predicted: NDArray[Any], before: NDArray[Any]) -> float | None:
    """Cohen's kappa (1960) between the predictions of two models for the same images: 1 is full agreement, 0 chance.

    Both are (n,) class indices, or (n, classes) booleans where an image may have several: then the mean over the
    classes. It is None where kappa has no value, because both models give all images one and the same answer: that they
    agree is then no sign that either has learned anything.

    Raises ValueError for different shapes.
    """
    if predicted.shape != before.shape:
        raise ValueError(
            f"predicted has shape {predicted.shape} and before {before.shape}; pass the same images."
        )
    if predicted.ndim == 2:
        kappas = [
            agreement(predicted[:, c].astype(int), before[:, c].astype(int))
            for c in range(predicted.shape[1])
        ]
        defined = [kappa for kappa in kappas if kappa is not None]
        return float(np.mean(defined)) if defined else None
    if len(predicted) == 0:
        return None
    classes = int(max(predicted.max(), before.max())) + 1
    counts, counts_before = (np.bincount(p, minlength=classes) for p in (predicted, before))
    by_chance = float(counts @ counts_before) / len(predicted) ** 2
    if by_chance == 1:
        return None
    return float((np.mean(predicted == before) - by_chance) / (1 - by_chance))


def residual_uncertainty(probabilities: NDArray[np.float64], *, multi_label: bool) -> float | None:
    """Mean entropy of (n, classes) probabilities, as a share of the highest there can be; None for an empty pool."""
    if len(probabilities) == 0:
        return None
    highest = np.log(2 if multi_label else max(2, probabilities.shape[1]))
    return float(entropy(probabilities, multi_label=multi_label).mean() / highest)
