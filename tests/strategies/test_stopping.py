"""Evidence worked out by hand."""

from dataclasses import replace
from math import log, sqrt

import numpy as np
import pytest

from strategies import InvalidSpec
from strategies.stopping import (
    AllOf,
    AnyOf,
    Budget,
    Criterion,
    EveryImageLabeled,
    LowUncertainty,
    Plateau,
    Progress,
    StablePredictions,
    Stop,
    TargetAccuracy,
    agreement,
    criterion,
    criterion_names,
    residual_uncertainty,
    what_if,
)

CRITERIA = [
    TargetAccuracy(0.9),
    Plateau(),
    StablePredictions(),
    LowUncertainty(),
    Budget(100),
    EveryImageLabeled(),
    AnyOf((Plateau(), StablePredictions())),
    AllOf((Plateau(), StablePredictions())),
]


def measured(*accuracies: float, half_width: float = 0.0196, batch: int = 10) -> list[Progress]:
    """Rounds with these accuracies, each with an interval of this half width and `batch` more labels."""
    return [
        Progress(labels=batch * i, pool=500, accuracy=a, interval=(a - half_width, a + half_width))
        for i, a in enumerate(accuracies)
    ]


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda c: c.name)
def test_without_a_round_or_a_measurement_labeling_goes_on(criterion: Criterion) -> None:
    assert isinstance(criterion, Criterion)
    assert criterion.evidence([]) is None
    assert criterion.evidence([Progress(labels=i, pool=9) for i in range(20)]) is None


def test_target_accuracy_goes_by_the_lower_bound() -> None:
    rounds = [Progress(50, 500, accuracy=0.95, interval=(0.91, 0.98))]
    assert TargetAccuracy(0.92).evidence(rounds) is None
    assert TargetAccuracy(0.91).evidence(rounds) == (
        "accuracy on the audit tasks is 95.0%, surely above 91.0%: the target of 91.0% is reached"
    )


@pytest.mark.parametrize(
    ("accuracies", "bound"),
    [
        # An interval of ±0.0196 is a standard error of 0.01; a tenth of its square is the noise, 1e-5. Labels 0, 10
        # and 20 are 10 from their mean, so the slope's standard error is sqrt(1e-5 / 200), and the rise's 20 times it.
        ((0.8, 0.8, 0.8), 2 * 20 * sqrt(1e-5 / 200)),
        ((0.8, 0.81, 0.82), 0.02 + 2 * 20 * sqrt(1e-5 / 200)),
        ((0.82, 0.81, 0.8), -0.02 + 2 * 20 * sqrt(1e-5 / 200)),
        # The residuals are -1/30, 2/30 and -1/30, on 3 - 2 degrees of freedom.
        ((0.8, 0.9, 0.8), 2 * 20 * sqrt(6 / 900 / 200)),
    ],
)
def test_a_plateau_is_a_rise_that_is_surely_small(accuracies: tuple[float, ...], bound: float) -> None:
    rounds = measured(0.1, *accuracies)  # the first is not of the last three
    if bound > 0:
        assert Plateau(bound + 1e-6, rounds=3).evidence(rounds) == (
            f"accuracy on the audit tasks surely rose by no more than {bound:.1%} over the last 20 labels (3 rounds)"
        )
        assert Plateau(bound - 1e-6, rounds=3).evidence(rounds) is None
    else:
        assert "no more than 0.0%" in str(Plateau(1e-6, rounds=3).evidence(rounds))


def test_few_audit_tasks_show_no_plateau_however_flat() -> None:
    flat = [0.9] * 8
    assert Plateau().evidence(measured(*flat, half_width=0.11)) is None  # some 30 audit tasks
    assert Plateau().evidence(measured(*flat, half_width=0.06)) is not None  # some 100


def test_a_lucky_start_on_few_audit_tasks_shows_no_plateau() -> None:
    """By hand: the first variance is 9e-4 more than the last, and its weight in the slope 10 / 200."""
    first, *rest = measured(0.83, 0.82, 0.81)
    lucky = replace(first, interval=(0.83 - 1.96 * sqrt(1e-3), 0.83 + 1.96 * sqrt(1e-3)))
    bound = -0.02 + 20 * 2 * sqrt((10 / 200) ** 2 * (1e-5 + 9e-4 + 1e-5))
    assert Plateau(bound + 1e-6, rounds=3).evidence([lucky, *rest]) is not None
    assert Plateau(bound - 1e-6, rounds=3).evidence([lucky, *rest]) is None
    assert Plateau(1e-6, rounds=3).evidence([first, *rest]) is not None


def test_a_plateau_takes_labels_and_all_rounds_measured() -> None:
    rounds = measured(*[0.9] * 8)
    assert Plateau().evidence(rounds) is not None
    assert Plateau().evidence(rounds[1:]) is None
    assert Plateau().evidence([*rounds, Progress(80, 500)]) is None
    assert Plateau().evidence(measured(*[0.9] * 8, batch=0)) is None


def test_stable_predictions_average_kappa_over_three_rounds() -> None:
    rounds = [Progress(10 * i, 500, agreement=k) for i, k in enumerate([0.5, 0.98, 0.995, 0.995])]
    assert StablePredictions().evidence(rounds[:3]) is None
    assert StablePredictions().evidence(rounds) == (
        "predictions have settled: their agreement (kappa) from round to round was 0.990 over the last 3"
    )
    assert StablePredictions(rounds=4).evidence(rounds) is None
    assert StablePredictions().evidence([*rounds, Progress(40, 500)]) is None


def test_low_uncertainty() -> None:
    rounds = [Progress(10, 500, uncertainty=0.05)]
    assert LowUncertainty().evidence(rounds) is None
    assert LowUncertainty(0.06).evidence(rounds) == (
        "mean entropy over the pool is 5.0% of the highest there can be, below 6.0%"
    )


def test_budget_and_an_empty_pool() -> None:
    assert Budget(100).evidence([Progress(99, 1)]) is None
    assert Budget(100).evidence([Progress(100, 1)]) == "the budget of 100 labels is used up"
    assert EveryImageLabeled().evidence([Progress(100, 1)]) is None
    assert EveryImageLabeled().evidence([Progress(0, 0)]) is None
    assert EveryImageLabeled().evidence([Progress(100, 0)]) == "every image is labeled"


def test_any_and_all() -> None:
    both = (Budget(100), LowUncertainty())
    one = [Progress(100, 5, uncertainty=0.5)]
    two = [Progress(100, 5, uncertainty=0.01)]
    assert AnyOf(both).evidence(one) == "the budget of 100 labels is used up"
    assert AllOf(both).evidence(one) is None
    assert AnyOf(both).evidence(two) == AllOf(both).evidence(two)
    assert str(AllOf(both).evidence(two)).startswith("the budget of 100 labels is used up; mean entropy")


def test_what_if_names_the_first_round_to_stop_after() -> None:
    rounds = [Progress(50 * i, 500 - 50 * i, accuracy=0.5 + 0.1 * i) for i in range(5)]
    assert what_if(rounds, Budget(90)) == Stop(2, rounds[2], "the budget of 90 labels is used up")
    assert what_if(rounds, Budget(1000)) is None
    assert what_if([], Budget(1)) is None


def test_agreement_is_cohens_kappa() -> None:
    # They agree on 3 of 4; by chance on (2 · 1 + 2 · 3) / 16 = 1/2.
    assert agreement(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])) == pytest.approx(0.5)
    assert agreement(np.array([0, 1, 2]), np.array([0, 1, 2])) == 1
    assert agreement(np.array([0, 1]), np.array([1, 0])) == pytest.approx(-1)


def test_agreement_on_several_labels_is_the_mean_over_the_classes() -> None:
    first, second = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    nobody = np.zeros(4)  # a class that both models never see says nothing
    now, before = (np.stack([x, x, nobody], axis=1).astype(bool) for x in (first, second))
    now[:, 1] = before[:, 1]
    assert agreement(now, before) == pytest.approx((0.5 + 1) / 2)


@pytest.mark.parametrize("predictions", [np.zeros(5, int), np.zeros((5, 2), bool), np.empty(0, int)])
def test_two_models_with_one_answer_to_everything_show_no_agreement(predictions: np.ndarray) -> None:
    assert agreement(predictions, predictions) is None


def test_agreement_on_different_images() -> None:
    with pytest.raises(ValueError, match="pass the same images"):
        agreement(np.zeros(3, int), np.zeros(4, int))


def test_residual_uncertainty_is_a_share_of_full_entropy() -> None:
    assert residual_uncertainty(np.array([[1, 0, 0], [1 / 3] * 3]), multi_label=False) == pytest.approx(0.5)
    quarter = -(0.25 * log(0.25) + 0.75 * log(0.75)) / log(2)
    assert residual_uncertainty(np.array([[0.25, 0.5, 0]]), multi_label=True) == pytest.approx(
        (quarter + 1 + 0) / 3
    )
    assert residual_uncertainty(np.ones((3, 1)), multi_label=False) == 0
    assert residual_uncertainty(np.empty((0, 3)), multi_label=False) is None


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("plateau", Plateau()),
        ("target_accuracy: 0.95", TargetAccuracy(0.95)),
        ({"budget": 400}, Budget(400)),
        ("{stable_predictions: {rounds: 5}}", StablePredictions(rounds=5)),
        (
            "{any: [{target_accuracy: 0.95}, {all: [plateau, low_uncertainty]}, every_image_labeled]}",
            AnyOf((TargetAccuracy(0.95), AllOf((Plateau(), LowUncertainty())), EveryImageLabeled())),
        ),
    ],
)
def test_specs(spec: str | dict, expected: Criterion) -> None:
    assert criterion(spec) == expected


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("platau", r"no stopping criterion 'platau'. Did you mean plateau\? There are: all, any, budget, "),
        ("budget", "budget needs the parameter labels"),
        ("{budget: 0}", "budget: labels is 0; a budget is of 1 or more"),
        ("{budget: many}", "budget.labels is 'many'; write a whole number"),
        ("{target_accuracy: 95}", "accuracy is 95.0; write a share, such as 0.95"),
        ("{plateau: 0}", "tolerance is 0.0; write a share"),
        ("{plateau: {rounds: 2}}", "rounds is 2; a line with its scatter takes 3 or more"),
        ("{stable_predictions: 99}", "kappa is 99.0; 1 is full agreement"),
        ("{stable_predictions: {rounds: 0}}", "rounds is 0; average over 1 or more"),
        ("{low_uncertainty: 5}", "threshold is 5.0; write a share"),
        ("{any: []}", "any: criteria is empty; give one or more"),
        ("{all: [margin]}", r"all.criteria\[0\]: There is no stopping criterion 'margin'"),
    ],
)
def test_a_bad_spec_says_what_is_wrong(spec: str, message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        criterion(spec)


def test_every_name_is_that_of_its_criterion() -> None:
    assert criterion_names() == sorted(c.name for c in CRITERIA)
