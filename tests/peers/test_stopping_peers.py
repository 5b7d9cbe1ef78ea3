"""The same histories of predictions, stopped after the same round as by small-text and baal."""

import warnings

import numpy as np
import pytest
from baal import ActiveLearningDataset
from baal.active.stopping_criteria import (
    EarlyStoppingCriterion,
    LabellingBudgetStoppingCriterion,
    LowAverageUncertaintyStoppingCriterion,
)
from sklearn.metrics import cohen_kappa_score
from small_text import KappaAverage, OverallUncertainty

from strategies.stopping import (
    Budget,
    LowUncertainty,
    Plateau,
    Progress,
    StablePredictions,
    agreement,
    residual_uncertainty,
    what_if,
)

CLASSES = 4


def history(seed: int, rounds: int = 25, size: int = 100) -> list[np.ndarray]:
    """(size, classes) probabilities of each round, surer and changing less as it goes on."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(size, CLASSES))
    all_rounds = []
    for i in range(rounds):
        logits = logits + rng.normal(size=logits.shape) / (1 + i) ** 1.5
        exponentials = np.exp(logits * (1 + i))
        all_rounds.append(exponentials / exponentials.sum(axis=1, keepdims=True))
    return all_rounds


def progress(rounds: list[np.ndarray]) -> list[Progress]:
    answers = [p.argmax(axis=1) for p in rounds]
    return [
        Progress(
            labels=10 * i,
            pool=len(p),
            agreement=agreement(answers[i], answers[i - 1]) if i else None,
            uncertainty=residual_uncertainty(p, multi_label=False),
        )
        for i, p in enumerate(rounds)
    ]


def first(stops: list[bool]) -> int | None:
    return stops.index(True) if True in stops else None


def where(rounds: list[np.ndarray], criterion: StablePredictions | LowUncertainty | Budget) -> int | None:
    stop = what_if(progress(rounds), criterion)
    return None if stop is None else stop.round


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("kappa", [0.9, 0.97, 0.99])
def test_stable_predictions_as_small_texts_kappa_average(seed: int, kappa: float) -> None:
    rounds = history(seed)
    theirs = KappaAverage(CLASSES, window_size=3, kappa=kappa)
    expected = first([theirs.stop(predictions=p.argmax(axis=1)) for p in rounds])
    assert expected is not None
    assert where(rounds, StablePredictions(kappa)) == expected


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("threshold", [0.5, 0.2, 0.1])
def test_low_uncertainty_as_small_text_and_baal(seed: int, threshold: float) -> None:
    rounds = history(seed)
    small_text = OverallUncertainty(CLASSES, threshold=threshold)
    everything = np.arange(len(rounds[0]))
    expected = first([bool(small_text.stop(proba=p, indices_stopping=everything)) for p in rounds])
    assert expected is not None
    assert where(rounds, LowUncertainty(threshold)) == expected
    baal = LowAverageUncertaintyStoppingCriterion(ActiveLearningDataset([]), threshold)
    shares = [-(p * np.log(p)).sum(axis=1) / np.log(CLASSES) for p in rounds]
    assert first([baal.should_stop({}, share) for share in shares]) == expected


def test_budget_as_baal() -> None:
    dataset = ActiveLearningDataset(list(range(500)))
    theirs = LabellingBudgetStoppingCriterion(dataset, 70)
    stops = []
    for _ in range(10):
        stops.append(theirs.should_stop({}, []))
        dataset.label_randomly(10)
    assert where(history(0, rounds=10), Budget(70)) == first(stops) == 7


@pytest.mark.parametrize("seed", range(20))
def test_agreement_as_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.integers(1 + seed % 5, size=(2, 30))
    ours = agreement(one, other)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a kappa without a value
        theirs = cohen_kappa_score(one, other)
    if ours is None:
        assert np.isnan(theirs)
    else:
        assert ours == pytest.approx(theirs, abs=1e-12)


def test_one_answer_to_everything_is_not_stable() -> None:
    # small-text takes kappa as 1 where it is 0/0, and would stop with a model that has never seen a second class.
    nothing_learned = [np.eye(CLASSES)[np.zeros(50, dtype=int)]] * 5
    theirs = KappaAverage(CLASSES)
    assert first([theirs.stop(predictions=p.argmax(axis=1)) for p in nothing_learned]) == 3
    assert where(nothing_learned, StablePredictions()) is None


def test_a_plateau_is_seen_through_its_noise_and_not_in_a_handful_of_tasks() -> None:
    # baal asks for the same accuracy ten times, within epsilon, and does not ask how well it was measured.
    def both(accuracies: list[float], half_width: float) -> tuple[bool, bool]:
        theirs = EarlyStoppingCriterion(ActiveLearningDataset([]), "accuracy")
        stops = [theirs.should_stop({"accuracy": a}, []) for a in accuracies]
        rounds = [
            Progress(10 * i, 500, accuracy=a, interval=(a - half_width, a + half_width))
            for i, a in enumerate(accuracies)
        ]
        return what_if(rounds, Plateau()) is not None, True in stops

    wavering = [0.9, 0.905, 0.9, 0.895, 0.905, 0.9, 0.895, 0.9, 0.9, 0.905, 0.895, 0.9]
    assert both(wavering, half_width=0.03) == (True, False)
    assert both([0.9] * 12, half_width=0.03) == (True, True)
    assert both([0.9] * 12, half_width=0.2) == (False, True)
