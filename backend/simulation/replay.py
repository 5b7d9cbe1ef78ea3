"""One run: a strategy labels a pool round by round, as the loop would, with an annotator who knows the answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from time import perf_counter
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from backend.learners.class_answers import ClassAnswers
from backend.learners.kinds import CommitteeKind, DetectorKind
from backend.learners.learner import Answers, Evaluation, Learner
from backend.learners.tasks import (
    METRICS,
    class_shares,
    evaluate_answers,
    fit_learner,
    has_several_classes,
    why_untrainable,
)
from backend.loop.pool import FROM_A_LEARNER, Labeled, make_pool, validated
from backend.settings import LoopSettings
from backend.simulation.hard_cases import Images, together
from backend.simulation.material import Material
from backend.simulation.scenario import Scenario
from backend.targets import Target, VisionTask
from strategies import Strategy
from strategies.stopping import agreement, residual_uncertainty

MINIMUM_LABELS: int = LoopSettings().minimum_labels


@dataclass(frozen=True)
class Protocol:
    """How every strategy is replayed: the question to the annotators, and how it is learned.

    task, classes, multiple: see `tasks.Question`. batch, budget: labels in a round and in all, audit tasks counted.
    learner, members, detector, backbone: as the settings. audit_share: of the labels.
    """

    task: VisionTask
    classes: tuple[str, ...]
    multiple: bool
    batch: int
    budget: int
    audit_share: float
    learner: CommitteeKind = "linear"
    members: int = 8
    detector: DetectorKind = "one-stage"
    backbone: str = "auto"

    @property
    def in_boxes(self) -> bool:
        """See `tasks.Question`; no dataset has names in boxes."""
        return False

    @property
    def metric(self) -> str:
        """What curves show.

        Of images with several classes, the mean over the classes of average precision: to be right in every class is
        rare there, and so its share says little.
        """
        return "mean average precision" if self.ranks_classes else METRICS[self.task]

    @property
    def learner_in_words(self) -> str:
        """What learns, for people."""
        match self.task:
            case "detection":
                return f"{self.detector} detector, {self.backbone} backbone, {self.members} dropout draws"
            case "segmentation":
                return f"segmenter, {self.backbone} backbone, {self.members} dropout draws"
            case "face":
                return f"face recogniser, a committee of {self.members}"
            case _:
                return f"{self.learner}, a committee of {self.members}"

    @property
    def ranks_classes(self) -> bool:
        """Whether images may have several classes, which are asked of the image as a whole."""
        return self.task == "classification" and self.multiple

    def labels_after(self, number: int, scenario: Scenario) -> int:
        """Labels that there are after a round; rounds are numbered from 1."""
        return min(number * self.batch, self.budget, scenario.pool_size)

    def rounds(self, scenario: Scenario) -> int:
        """Rounds in a run."""
        return -(-min(self.budget, scenario.pool_size) // self.batch)

    def fit(self, material: Material, images: Images, seed: int) -> Learner:
        """The learner of some labeled images."""
        return fit_learner(self, material.examples(images), self, seed)

    def measure(self, answers: Answers, targets: Sequence[Target]) -> Evaluation:
        """How good the answers are."""
        return evaluate_answers(self, answers, targets)

    def score(self, answers: Answers, targets: Sequence[Target]) -> float:
        """What curves show, see `metric`."""
        if not self.ranks_classes:
            return self.measure(answers, targets).score
        mean = cast("ClassAnswers", answers).probabilities.mean(axis=0)
        truth = class_shares(targets, self.classes) > 0.5
        there = truth.any(axis=0)
        return float(average_precision_score(truth[:, there], mean[:, there])) if there.any() else 0.0


@dataclass(frozen=True)
class Round:
    """What was labeled in a round and how good the learner was after it.

    picks: positions among the candidates, in the order of the strategy's ranking.
    labels: so far, the audit tasks among them. pool: unlabeled candidates left.
    score: on the test set, see `Protocol.score`. log_loss: in nats, of classifiers.
    class_scores: each class's part of the score on the test set, by its name: recall, or as `Evaluation.classes` says.
    accuracy, interval: the score as measured on the audit tasks; None where there are none.
    agreement, uncertainty: of the pool, as the stopping criteria want them.
    """

    number: int
    picks: list[int]
    labels: int
    audit_labels: int
    pool: int
    score: float
    log_loss: float | None
    class_scores: dict[str, float | None]
    accuracy: float | None
    interval: tuple[float, float] | None
    agreement: float | None
    uncertainty: float | None
    select_seconds: float
    fit_seconds: float


class Replay:
    """A run, as far as it has come; `step` labels one round more."""

    def __init__(
        self,
        scenario: Scenario,
        material: Material,
        protocol: Protocol,
        strategy: Strategy,
        cold_start: Strategy,
        done: Sequence[Round] = (),
    ) -> None:
        self.scenario, self.material, self.protocol = scenario, material, protocol
        self.strategy, self.cold_start = strategy, cold_start
        self.test_targets = material.targets(scenario.test)
        self.chosen = np.array([pick for round_ in done for pick in round_.picks], np.int64)
        self.audited = done[-1].audit_labels if done else 0
        self.number = len(done)
        self.learner: Learner | None = None
        self.answers: Answers | None = None
        if done:
            self._fit()

    @property
    def waiting(self) -> NDArray[np.int64]:
        """Positions of the candidates that have no label."""
        return np.setdiff1d(np.arange(len(self.scenario.candidates)), self.chosen)

    def step(self) -> Round:
        """Select a batch, label it, train and measure."""
        self.number += 1
        labels = self.protocol.labels_after(self.number, self.scenario)
        audited = min(floor(self.protocol.audit_share * labels + 0.5), len(self.scenario.audit))
        candidates = min(labels - audited, len(self.scenario.candidates))
        before, waiting_before = self._predicted(), self.waiting

        started = perf_counter()
        picks = self._select(candidates - len(self.chosen))
        selected = perf_counter()
        self.chosen = np.concatenate([self.chosen, picks])
        self.audited = labels - candidates
        trained = perf_counter()
        learner = self._fit()
        fitted = perf_counter()

        after, waiting = self._predicted(), self.waiting
        still = np.isin(waiting_before, waiting)
        answers = self.material.answers(learner, self.scenario.test)
        test = self.protocol.measure(answers, self.test_targets)
        audit = self._audit(learner)
        return Round(
            number=self.number,
            picks=picks.tolist(),
            labels=labels,
            audit_labels=self.audited,
            pool=len(waiting),
            score=self.protocol.score(answers, self.test_targets),
            log_loss=test.details.get("log loss"),
            class_scores={of_class["name"]: of_class["score"] for of_class in test.classes},
            accuracy=audit.score if audit else None,
            interval=audit.interval if audit else None,
            agreement=None if before is None or after is None else agreement(after, before[still]),
            uncertainty=self._uncertainty(),
            select_seconds=selected - started,
            fit_seconds=fitted - trained,
        )

    def _select(self, size: int) -> NDArray[np.int64]:
        waiting = self.waiting
        if size == 0:  # only audit tasks are left
            return waiting[:0]
        learner = self.learner if self._trainable() else None
        strategy = self.strategy
        if learner is None and strategy.needs & FROM_A_LEARNER:
            strategy = self.cold_start
        candidates, audited = self.scenario.candidates, self._audited
        labeled = together(candidates.take(self.chosen), audited)
        vectors = self.material.vectors(candidates.take(waiting))
        classes = self.protocol.classes if learner is None else learner.classes
        pool = make_pool(
            strategy,
            question=self.protocol,
            classes=classes,
            embeddings=vectors,
            features=vectors,
            groups=self._groups(candidates.positions[waiting]),
            labeled=Labeled(
                self.material.vectors(labeled),
                class_shares(self.material.targets(labeled), classes),
                self._groups(labeled.positions),
            ),
            answers=None if learner is None else self.answers,
            labeled_answers=lambda: None if learner is None else self.material.answers(learner, labeled),
            validation=lambda: validated(
                learner, self.protocol, self.material.vectors(audited), self.material.targets(audited)
            ),
        )
        ranking = strategy.rank(pool, size, batch_size=size, seed=self._seed)
        picks: NDArray[np.int64] = waiting[ranking.indices]
        return picks

    @property
    def _audited(self) -> Images:
        return self.scenario.audit.take(np.arange(self.audited))

    def _trainable(self) -> bool:
        targets = self.material.targets(self.scenario.candidates.take(self.chosen))
        return why_untrainable(self.protocol, targets, MINIMUM_LABELS) is None

    def _fit(self) -> Learner:
        """Train on what is labeled; with a label or two as well, so that there is a score from the start."""
        candidates = self.scenario.candidates
        self.learner = self.protocol.fit(self.material, candidates.take(self.chosen), self._seed)
        waiting = candidates.take(self.waiting)
        self.answers = self.material.answers(self.learner, waiting) if len(waiting) else None
        return self.learner

    def _predicted(self) -> NDArray[Any] | None:
        mean = self._probabilities()
        if mean is None:
            return None
        predicted: NDArray[Any] = mean >= 0.5 if self._several else mean.argmax(axis=1)
        return predicted

    def _uncertainty(self) -> float | None:
        mean = self._probabilities()
        return None if mean is None else residual_uncertainty(mean, multi_label=self._several)

    def _probabilities(self) -> NDArray[np.float64] | None:
        """(waiting, classes), the mean of the committee."""
        if self.answers is None:
            return None
        mean: NDArray[np.float64] = self.answers.pool_fields()["committee"].mean(axis=0, dtype=np.float64)
        return mean

    @property
    def _several(self) -> bool:
        return has_several_classes(self.protocol)

    def _audit(self, learner: Learner) -> Evaluation | None:
        if not self.audited:
            return None
        audited = self._audited
        return self.protocol.measure(self.material.answers(learner, audited), self.material.targets(audited))

    def _groups(self, positions: NDArray[np.int64]) -> dict[str, NDArray[np.str_]]:
        return {name: values[positions] for name, values in self.scenario.groups.items()}

    @property
    def _seed(self) -> int:
        """The same for all strategies."""
        return 1000 * self.scenario.seed + self.number


def full_data_score(scenario: Scenario, material: Material, protocol: Protocol) -> float:
    """What the learner reaches on the whole pool, as it is labeled."""
    every = together(scenario.candidates, scenario.audit)
    learner = protocol.fit(material, every, 1000 * scenario.seed)
    return protocol.score(material.answers(learner, scenario.test), material.targets(scenario.test))
