"""What the runs come to: curves, what they save against random, and where labeling would have stopped.

All comparisons with random are paired by seed: the same split, audit tasks and learner seeds. Confidence intervals are
Student's t (95 %), which is honest about five seeds where a bootstrap of five numbers is not. Labels saved are a ratio,
so they are averaged and given their interval on the logarithm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np
from scipy.stats import t as student

from backend.simulation.experiment import Results
from backend.simulation.replay import Round
from strategies.stopping import Progress, criterion, what_if

RANDOM = "random"
TARGETS = (0.90, 0.95, 0.99)  # shares of the full-data score
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % confidence interval; without one where there is a single seed."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Curve:
    """One run: the score after so many labels."""

    strategy: str
    seed: int
    labels: tuple[int, ...]
    scores: tuple[float, ...]
    log_losses: tuple[float | None, ...]
    class_scores: tuple[dict[str, float | None], ...]
    select_seconds: tuple[float, ...]

    @property
    def area(self) -> float:
        """Area under the curve: the mean score over the labels, from the first round to the last."""
        labels, scores = np.array(self.labels, np.float64), np.array(self.scores)
        if len(labels) == 1:
            return self.scores[0]
        return float(np.trapezoid(scores, labels) / (labels[-1] - labels[0]))

    def labels_to(self, score: float) -> float | None:
        """Labels at which the curve first reaches a score, interpolated; None where it does not."""
        reached = np.flatnonzero(np.array(self.scores) >= score)
        if not len(reached):
            return None
        last = int(reached[0])
        if last == 0:
            return float(self.labels[0])
        rise = self.scores[last] - self.scores[last - 1]
        share = (score - self.scores[last - 1]) / rise
        return self.labels[last - 1] + share * (self.labels[last] - self.labels[last - 1])

    def score_at(self, labels: float) -> float | None:
        """The interpolated score; None beyond the curve's ends."""
        if not self.labels[0] <= labels <= self.labels[-1]:
            return None
        return float(np.interp(labels, self.labels, self.scores))


@dataclass(frozen=True)
class LabelsToTarget:
    """What it took to reach a share of the full-data score.

    labels: mean over the seeds; None where a seed did not reach it. reached: how many seeds did.
    saved: the share of random's labels that was saved; None where a seed did not reach the target.
    at_least: whether random did not reach it within the budget for some seed, which then counts as if it had with
        its last label, so that more was saved than `saved` says.
    """

    share: float
    labels: float | None
    reached: int
    saved: Estimate | None
    at_least: bool


@dataclass(frozen=True)
class StrategySummary:
    """One strategy over all seeds.

    gain: area under the curve less random's. verdict: "better" or "worse" where the interval of the gain excludes 0,
    "inconclusive" where it does not, "baseline" for random, "" where there is one seed only.
    """

    strategy: str
    area: Estimate
    gain: Estimate | None
    verdict: str
    final_score: Estimate
    targets: tuple[LabelsToTarget, ...]
    select_seconds: float


@dataclass(frozen=True)
class StoppingPoint:
    """Where a criterion would have ended labeling with a strategy: means over the seeds in which it would have.

    stopped: in how many seeds; the rest is None where it is none. regret: the full-data score less that at the stop.
    changes: of the score, had labeling ended otherwise, by how; None where the curves do not go that far.
    """

    criterion: str
    strategy: str
    stopped: int
    labels: float | None
    score: float | None
    regret: float | None
    changes: Mapping[str, float | None]


def curves(results: Results) -> list[Curve]:
    """A curve for each run."""
    return [
        Curve(
            strategy,
            seed,
            tuple(r.labels for r in rounds),
            tuple(r.score for r in rounds),
            tuple(r.log_loss for r in rounds),
            tuple(r.class_scores for r in rounds),
            tuple(r.select_seconds for r in rounds),
        )
        for (strategy, seed), rounds in results.runs.items()
    ]


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and Student's t interval."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(mean, None, None)
    half = float(
        student.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * np.std(values, ddof=1) / sqrt(len(values))
    )
    return Estimate(mean, mean - half, mean + half)


def summarise(found: Sequence[Curve], full_data: Mapping[int, float]) -> list[StrategySummary]:
    """Every strategy beside random, in the order in which they come."""
    by_strategy: dict[str, list[Curve]] = {}
    for curve in found:
        by_strategy.setdefault(curve.strategy, []).append(curve)
    at_random = {curve.seed: curve for curve in by_strategy[RANDOM]}
    return [_summary(own, at_random, full_data) for own in by_strategy.values()]


def _summary(
    own: Sequence[Curve], at_random: Mapping[int, Curve], full_data: Mapping[int, float]
) -> StrategySummary:
    strategy = own[0].strategy
    gain = None
    if strategy != RANDOM:
        gain = estimate([curve.area - at_random[curve.seed].area for curve in own])
    return StrategySummary(
        strategy,
        area=estimate([curve.area for curve in own]),
        gain=gain,
        verdict=_verdict(gain),
        final_score=estimate([curve.scores[-1] for curve in own]),
        targets=tuple(_labels_to_target(own, at_random, full_data, share) for share in TARGETS),
        select_seconds=float(np.mean([s for curve in own for s in curve.select_seconds])),
    )


def _verdict(gain: Estimate | None) -> str:
    if gain is None:
        return "baseline"
    if gain.low is None or gain.high is None:
        return ""
    if gain.low > 0:
        return "better"
    return "worse" if gain.high < 0 else "inconclusive"


def _labels_to_target(
    own: Sequence[Curve], at_random: Mapping[int, Curve], full_data: Mapping[int, float], share: float
) -> LabelsToTarget:
    wanted = {curve.seed: share * full_data[curve.seed] for curve in own}
    needed = [curve.labels_to(wanted[curve.seed]) for curve in own]
    reached = [labels for labels in needed if labels is not None]
    if len(reached) < len(own):
        return LabelsToTarget(share, None, len(reached), None, False)
    by_random = [at_random[curve.seed].labels_to(wanted[curve.seed]) for curve in own]
    ratios = [
        log(labels / (at_random[curve.seed].labels[-1] if other is None else other))
        for curve, labels, other in zip(own, reached, by_random, strict=True)
    ]
    saved = None
    if own[0].strategy != RANDOM:
        ratio = estimate(ratios)
        saved = Estimate(
            1 - exp(ratio.mean),
            None if ratio.high is None else 1 - exp(ratio.high),
            None if ratio.low is None else 1 - exp(ratio.low),
        )
    return LabelsToTarget(share, float(np.mean(reached)), len(reached), saved, None in by_random)


CHANGES = ("a batch earlier", "a batch later", "25% earlier", "25% later")


def stopping_points(
    results: Results, criteria: Sequence[str], full_data: Mapping[int, float]
) -> list[StoppingPoint]:
    """Every criterion with every strategy. Raises InvalidSpec for a criterion that is none."""
    by_strategy: dict[str, list[Curve]] = {}
    for curve in curves(results):
        by_strategy.setdefault(curve.strategy, []).append(curve)
    return [
        _stopping_point(spec, strategy, own, results, full_data)
        for spec in criteria
        for strategy, own in by_strategy.items()
    ]


def _stopping_point(
    spec: str, strategy: str, own: Sequence[Curve], results: Results, full_data: Mapping[int, float]
) -> StoppingPoint:
    labels, scores, regrets = [], [], []
    changes: dict[str, list[float | None]] = {name: [] for name in CHANGES}
    for curve in own:
        rounds = results.runs[strategy, curve.seed]
        stop = what_if([_seen(round_) for round_ in rounds], criterion(spec))
        if stop is None:
            continue
        score = curve.scores[stop.round]
        labels.append(curve.labels[stop.round])
        scores.append(score)
        regrets.append(full_data[curve.seed] - score)
        others = (
            curve.scores[stop.round - 1] if stop.round else None,
            curve.scores[stop.round + 1] if stop.round + 1 < len(rounds) else None,
            curve.score_at(0.75 * labels[-1]),
            curve.score_at(1.25 * labels[-1]),
        )
        for name, other in zip(CHANGES, others, strict=True):
            changes[name].append(None if other is None else other - score)
    return StoppingPoint(
        spec,
        strategy,
        len(labels),
        _mean(labels),
        _mean(scores),
        _mean(regrets),
        {name: _mean(values) for name, values in changes.items()},
    )


def _seen(done: Round) -> Progress:
    """What a criterion is told of a round; audit tasks are not counted there."""
    return Progress(
        labels=done.labels,
        pool=done.pool,
        accuracy=done.accuracy,
        interval=done.interval,
        agreement=done.agreement,
        uncertainty=done.uncertainty,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None
