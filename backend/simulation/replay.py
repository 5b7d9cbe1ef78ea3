"""One run: a strategy labels a pool round by round, as the loop would, with an annotator who knows the answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from backend.learners.classification import why_untrainable
from backend.learners.committee import Committee, Learner, fit_committee
from backend.learners.evaluation import Evaluation, evaluate
from backend.loop.pool import FROM_A_LEARNER, make_pool
from backend.settings import LoopSettings
from backend.simulation.embeddings import Embeddings
from backend.simulation.hard_cases import Images
from backend.simulation.scenario import Scenario
from strategies import Strategy
from strategies.stopping import agreement, residual_uncertainty

MINIMUM_LABELS: int = LoopSettings().minimum_labels


@dataclass(frozen=True)
class Protocol:
    """How every strategy is replayed.

    batch, budget: labels in a round and in all, audit tasks counted.
    learner, members: the kind and the size of the committee. audit_share: of the labels.
    """

    classes: tuple[str, ...]
    multi_label: bool
    batch: int
    budget: int
    learner: Learner
    members: int
    audit_share: float

    def labels_after(self, number: int, scenario: Scenario) -> int:
        """Labels that there are after a round; rounds are numbered from 1."""
        return min(number * self.batch, self.budget, scenario.pool_size)

    def rounds(self, scenario: Scenario) -> int:
        """Rounds in a run."""
        return -(-min(self.budget, scenario.pool_size) // self.batch)

    def fit(self, embeddings: NDArray[np.float32], targets: NDArray[np.float32], seed: int) -> Committee:
        """The learner."""
        return fit_committee(
            self.learner,
            embeddings,
            targets,
            self.classes,
            multi_label=self.multi_label,
            members=self.members,
            seed=seed,
        )

    def measure(
        self, learner: Committee, embeddings: NDArray[np.float32], targets: NDArray[np.float32]
    ) -> Evaluation:
        """How good the learner is on some images."""
        answers = learner.probabilities(embeddings).mean(axis=0)
        return evaluate(answers, targets, self.classes, self.multi_label)

    def score(
        self, learner: Committee, embeddings: NDArray[np.float32], targets: NDArray[np.float32]
    ) -> float:
        """What curves show: accuracy; of images with several classes, the mean over the classes of average precision.

        To be right in every class is rare there, and so its share says little.
        """
        if not self.multi_label:
            return self.measure(learner, embeddings, targets).accuracy
        answers, truth = learner.probabilities(embeddings).mean(axis=0), targets > 0.5
        there = truth.any(axis=0)
        return float(average_precision_score(truth[:, there], answers[:, there])) if there.any() else 0.0


@dataclass(frozen=True)
class Round:
    """What was labeled in a round and how good the learner was after it.

    picks: positions among the candidates, in the order of the strategy's ranking.
    labels: so far, the audit tasks among them. pool: unlabeled candidates left.
    score: on the test set, see `Protocol.score`. log_loss: in nats. recalls: of each class on the test set.
    accuracy, interval: as measured on the audit tasks; None where there are none.
    agreement, uncertainty: of the pool, as the stopping criteria want them.
    """

    number: int
    picks: list[int]
    labels: int
    audit_labels: int
    pool: int
    score: float
    log_loss: float
    recalls: list[float | None]
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
        embeddings: Embeddings,
        protocol: Protocol,
        strategy: Strategy,
        cold_start: Strategy,
        done: Sequence[Round] = (),
    ) -> None:
        self.scenario, self.protocol = scenario, protocol
        self.strategy, self.cold_start = strategy, cold_start
        self.vectors = embeddings.vectors()
        self.candidate_rows = embeddings.rows(scenario.candidates)
        self.audit_rows = embeddings.rows(scenario.audit)
        self.test_vectors = self.vectors[embeddings.rows(scenario.test)]
        self.chosen = np.array([pick for round_ in done for pick in round_.picks], np.int64)
        self.audited = done[-1].audit_labels if done else 0
        self.number = len(done)
        self.learner: Committee | None = None
        self.probabilities: NDArray[np.float32] | None = None
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
        test = self.protocol.measure(learner, self.test_vectors, self.scenario.test.targets)
        audit = self._audit(learner)
        assert self.probabilities is not None
        return Round(
            number=self.number,
            picks=picks.tolist(),
            labels=labels,
            audit_labels=self.audited,
            pool=len(waiting),
            score=self.protocol.score(learner, self.test_vectors, self.scenario.test.targets),
            log_loss=test.log_loss,
            recalls=[counts.recall for counts in test.classes],
            accuracy=audit.accuracy if audit else None,
            interval=audit.interval if audit else None,
            agreement=None if before is None or after is None else agreement(after, before[still]),
            uncertainty=residual_uncertainty(
                self.probabilities.mean(axis=0, dtype=np.float64), multi_label=self.protocol.multi_label
            ),
            select_seconds=selected - started,
            fit_seconds=fitted - trained,
        )

    def _select(self, size: int) -> NDArray[np.int64]:
        waiting = self.waiting
        if size == 0:  # only audit tasks are left
            return waiting[:0]
        committee = self.learner if self._trainable() else None
        strategy = self.strategy
        if committee is None and strategy.needs & FROM_A_LEARNER:
            strategy = self.cold_start
        candidates = self.scenario.candidates
        audited = np.arange(self.audited)
        labeled_positions = np.concatenate(
            [candidates.positions[self.chosen], self.scenario.audit.positions[audited]]
        )
        vectors = self.vectors[self.candidate_rows[waiting]]
        pool = make_pool(
            strategy.needs,
            committee=committee,
            classes=self.protocol.classes,
            multi_label=self.protocol.multi_label,
            embeddings=vectors,
            features=vectors,
            labeled_embeddings=self.vectors[
                np.concatenate([self.candidate_rows[self.chosen], self.audit_rows[audited]])
            ],
            labeled_targets=np.concatenate(
                [candidates.targets[self.chosen], self.scenario.audit.targets[audited]]
            ),
            validation_features=self.vectors[self.audit_rows[audited]],
            validation_targets=self.scenario.audit.targets[audited],
            groups=self._groups(candidates.positions[waiting]),
            labeled_groups=self._groups(labeled_positions),
            probabilities=self.probabilities,
        )
        ranking = strategy.rank(pool, size, batch_size=size, seed=self._seed)
        picks: NDArray[np.int64] = waiting[ranking.indices]
        return picks

    def _trainable(self) -> bool:
        targets = self.scenario.candidates.targets[self.chosen]
        return why_untrainable(targets, MINIMUM_LABELS, multi_label=self.protocol.multi_label) is None

    def _fit(self) -> Committee:
        """Train on what is labeled; with a label or two as well, so that there is a score from the start."""
        self.learner = self.protocol.fit(
            self.vectors[self.candidate_rows[self.chosen]],
            self.scenario.candidates.targets[self.chosen],
            self._seed,
        )
        self.probabilities = self.learner.probabilities(self.vectors[self.candidate_rows[self.waiting]])
        return self.learner

    def _predicted(self) -> NDArray[Any] | None:
        if self.probabilities is None:
            return None
        mean = self.probabilities.mean(axis=0)
        predicted: NDArray[Any] = mean >= 0.5 if self.protocol.multi_label else mean.argmax(axis=1)
        return predicted

    def _audit(self, learner: Committee) -> Evaluation | None:
        if not self.audited:
            return None
        audited = np.arange(self.audited)
        return self.protocol.measure(
            learner, self.vectors[self.audit_rows[audited]], self.scenario.audit.targets[audited]
        )

    def _groups(self, positions: NDArray[np.int64]) -> dict[str, NDArray[np.str_]]:
        return {name: values[positions] for name, values in self.scenario.groups.items()}

    @property
    def _seed(self) -> int:
        """The same for all strategies."""
        return 1000 * self.scenario.seed + self.number


def full_data_score(scenario: Scenario, embeddings: Embeddings, protocol: Protocol) -> float:
    """What the learner reaches on the whole pool, as it is labeled."""
    vectors = embeddings.vectors()
    parts: tuple[Images, Images] = (scenario.candidates, scenario.audit)
    learner = protocol.fit(
        vectors[np.concatenate([embeddings.rows(part) for part in parts])],
        np.concatenate([part.targets for part in parts]),
        1000 * scenario.seed,
    )
    test_vectors = vectors[embeddings.rows(scenario.test)]
    return protocol.score(learner, test_vectors, scenario.test.targets)
