"""The statistics, worked out by hand."""

from math import exp, log, sqrt

import pytest

from backend.simulation.experiment import Results
from backend.simulation.headline import headline
from backend.simulation.replay import Round
from backend.simulation.summary import Curve, Estimate, estimate, stopping_points, summarise

T_2 = 4.302653  # quantile 0.975 of Student's t with 2 degrees of freedom


def curve(strategy: str, seed: int, *points: tuple[int, float]) -> Curve:
    labels, scores = zip(*points, strict=True)
    return Curve(
        strategy, seed, labels, scores, (0.0,) * len(points), ((),) * len(points), (0.5,) * len(points)
    )


def test_the_area_is_the_mean_score_over_the_labels() -> None:
    # Trapezoids: 10 × 0.5 + 30 × 0.8, over 40 labels.
    assert curve("margin", 0, (10, 0.4), (20, 0.6), (50, 1.0)).area == pytest.approx(
        (10 * 0.5 + 30 * 0.8) / 40
    )
    assert curve("margin", 0, (10, 0.4)).area == 0.4


def test_labels_to_a_score_are_interpolated_at_the_first_crossing() -> None:
    found = curve("margin", 0, (10, 0.5), (20, 0.7), (30, 0.6), (40, 0.8))
    assert found.labels_to(0.6) == pytest.approx(15)
    assert found.labels_to(0.7) == pytest.approx(20)
    assert found.labels_to(0.75) == pytest.approx(37.5)
    assert found.labels_to(0.4) == 10
    assert found.labels_to(0.81) is None


def test_an_estimate_is_the_mean_with_students_interval() -> None:
    # Deviation of 1, 2, 3 is 1; the interval is 2 ± t / √3.
    found = estimate([1, 2, 3])
    assert found.mean == 2
    assert (found.low, found.high) == pytest.approx((2 - T_2 / sqrt(3), 2 + T_2 / sqrt(3)), abs=1e-5)
    assert estimate([3]) == Estimate(3, None, None)


def three_seeds(strategy: str, *scores: float) -> list[Curve]:
    return [curve(strategy, seed, (0, score), (100, score)) for seed, score in enumerate(scores)]


def test_a_strategy_is_compared_with_random_by_pairs() -> None:
    # Seeds differ by 0.1 and more, strategies by 0.01 in each: only pairs show it.
    found = summarise(
        [
            *three_seeds("random", 0.5, 0.6, 0.8),
            *three_seeds("margin", 0.511, 0.61, 0.809),
            *three_seeds("bald", 0.489, 0.59, 0.791),
            *three_seeds("entropy", 0.6, 0.6, 0.7),
        ],
        {0: 1.0, 1: 1.0, 2: 1.0},
    )
    assert [(s.strategy, s.verdict) for s in found] == [
        ("random", "baseline"),
        ("margin", "better"),
        ("bald", "worse"),
        ("entropy", "inconclusive"),
    ]
    gain = found[1].gain
    assert gain is not None and gain.low is not None
    assert gain.mean == pytest.approx(0.01)
    assert gain.low == pytest.approx(0.01 - T_2 * 0.001 / sqrt(3), abs=1e-6)
    assert found[1].select_seconds == 0.5


def test_one_seed_proves_nothing() -> None:
    found = summarise([curve("random", 0, (10, 0.1)), curve("margin", 0, (10, 0.9))], {0: 1.0})
    assert found[1].verdict == ""
    assert found[1].gain == Estimate(0.8, None, None)


def reaching(strategy: str, *labels: float | None) -> list[Curve]:
    """Curves that rise by a straight line and reach 0.9 at so many labels; 0.45 at most where that is None."""
    return [
        curve(strategy, seed, (0, 0.0), (200, 0.45 if count is None else 0.9 * 200 / count))
        for seed, count in enumerate(labels)
    ]


def test_savings_are_a_geometric_mean_of_ratios() -> None:
    random, margin = summarise(
        [*reaching("random", 100, 100, 100), *reaching("margin", 50, 60, 80)], {0: 1.0, 1: 1.0, 2: 1.0}
    )
    assert random.targets[0].labels == pytest.approx(100)
    assert random.targets[0].saved is None
    to_90 = margin.targets[0]
    assert to_90.labels == pytest.approx((50 + 60 + 80) / 3)
    logs = [log(0.5), log(0.6), log(0.8)]
    mean = sum(logs) / 3
    half = T_2 * sqrt(sum((x - mean) ** 2 for x in logs) / 2) / sqrt(3)
    assert to_90.saved is not None and not to_90.at_least
    assert to_90.saved.mean == pytest.approx(1 - (0.5 * 0.6 * 0.8) ** (1 / 3))
    assert to_90.saved.low == pytest.approx(1 - exp(mean + half), abs=1e-5)
    assert to_90.saved.high == pytest.approx(1 - exp(mean - half), abs=1e-5)


def test_the_target_is_a_share_of_each_seeds_own_full_data_score() -> None:
    random, _ = summarise([*reaching("random", 100, 100), *reaching("margin", 100, 100)], {0: 1.0, 1: 0.5})
    assert random.targets[0].labels == pytest.approx((100 + 50) / 2)


def test_where_random_does_not_get_there_the_saving_is_at_least_so_much() -> None:
    _, margin = summarise([*reaching("random", 100, None), *reaching("margin", 50, 50)], {0: 1.0, 1: 1.0})
    to_90 = margin.targets[0]
    assert to_90.at_least
    assert to_90.saved is not None
    assert to_90.saved.mean == pytest.approx(1 - sqrt((50 / 100) * (50 / 200)))


def test_where_the_strategy_does_not_get_there_nothing_is_said_of_savings() -> None:
    _, margin = summarise([*reaching("random", 100, 100), *reaching("margin", 50, None)], {0: 1.0, 1: 1.0})
    assert (margin.targets[0].labels, margin.targets[0].reached, margin.targets[0].saved) == (None, 1, None)


def rounds(*scores: float) -> list[Round]:
    return [
        Round(
            number=i + 1,
            picks=[],
            labels=20 * (i + 1),
            audit_labels=2 * (i + 1),
            pool=500,
            score=score,
            log_loss=1 - score,
            class_scores={},
            accuracy=score,
            interval=(score - 0.05, score + 0.05),
            agreement=None,
            uncertainty=1 - score,
            select_seconds=0,
            fit_seconds=0,
        )
        for i, score in enumerate(scores)
    ]


def test_stopping_tells_where_and_what_another_moment_would_have_changed() -> None:
    results = Results(
        full_data={0: 0.9, 1: 0.95},
        runs={("margin", 0): rounds(0.5, 0.6, 0.7, 0.8, 0.85, 0.88), ("margin", 1): rounds(0.5, 0.5, 0.5)},
    )
    never, early, by_labels = stopping_points(
        results, ["{target_accuracy: 0.95}", "{low_uncertainty: 0.25}", "{budget: 40}"], results.full_data
    )
    assert (never.stopped, never.labels, never.score, never.regret) == (0, None, None, None)
    assert set(never.changes.values()) == {None}
    # Uncertainty falls below 0.25 in round 4, with 80 labels; 60 and 100 labels are a quarter less and more.
    assert (early.criterion, early.strategy, early.stopped, early.labels) == (
        "{low_uncertainty: 0.25}",
        "margin",
        1,
        80,
    )
    assert early.score == pytest.approx(0.8)
    assert early.regret == pytest.approx(0.1)
    assert early.changes == pytest.approx(
        {"a batch earlier": -0.1, "a batch later": 0.05, "25% earlier": -0.1, "25% later": 0.05}
    )
    # Means over both seeds.
    assert (by_labels.stopped, by_labels.labels) == (2, 40)
    assert by_labels.score == pytest.approx(0.55)
    assert by_labels.regret == pytest.approx((0.3 + 0.45) / 2)


def test_beyond_the_ends_of_the_runs_nothing_is_made_up() -> None:
    results = Results(full_data={0: 0.9}, runs={("margin", 0): rounds(0.8)})
    (point,) = stopping_points(results, ["{budget: 10}"], results.full_data)
    assert point.stopped == 1
    assert set(point.changes.values()) == {None}


def told(*found: Curve) -> str:
    seeds = {curve.seed for curve in found}
    return headline(summarise(found, dict.fromkeys(seeds, 1.0)))


def test_the_headline_names_the_best_what_it_saves_and_what_does_harm() -> None:
    assert told(*reaching("random", 100, 120)) == "Only the random baseline was run."
    text = told(
        *reaching("random", 100, 100, 100), *reaching("bald", 199, 198, 197), *reaching("margin", 49, 50, 51)
    )
    assert text.startswith(
        "margin has the best curve, significantly better than random. "
        "It reaches 95% of the full-data score with 53 labels, 50% fewer than random (95% interval of the saving: 4"
    )
    assert text.endswith("Significantly worse than random: bald.")


def test_the_headline_claims_no_best_curve_where_random_has_it() -> None:
    text = told(*reaching("random", 100, 110), *reaching("margin", 150, 100))
    assert text.startswith("No strategy has a better curve than random; margin comes next.")


def test_the_headline_knows_what_one_seed_is_worth() -> None:
    assert told(*reaching("random", None), *reaching("margin", 100)) == (
        "margin has the best curve, but one seed proves nothing. "
        "It reaches 95% of the full-data score with 106 labels, at least 47% fewer than random."
    )
    assert told(*reaching("random", 100), *reaching("margin", 150)) == (
        "No strategy has a better curve than random; margin comes next. "
        "It reaches 95% of the full-data score with 158 labels, 50% more than random."
    )
