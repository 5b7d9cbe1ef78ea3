"""Committees score and choose as scikit-activeml's, modAL's, baal's and small-text's, or else as the papers say."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from baal.active import heuristics as baal
from baal.active.heuristics.aliases import PowerBALD as BaalPowerBALD
from baal.active.heuristics.stochastics import PowerSampling
from modAL import disagreement as modal
from modAL.models import ActiveLearner, Committee
from skactiveml.classifier import SklearnClassifier
from skactiveml.pool import BatchBALD as ScikitBatchBALD
from skactiveml.pool import GreedyBALD, QueryByCommittee, batch_bald
from small_text.query_strategies import bayesian

from strategies import (
    Bald,
    BatchBald,
    ConsensusEntropy,
    ConsensusKL,
    Entropy,
    MeanStandardDeviation,
    Pool,
    PowerAcquisition,
    PowerBald,
    VariationRatio,
    VoteEntropy,
)
from strategies.ordering import highest
from strategies.scored import ScoredStrategy
from tests.peers.committees import MEMBERS, digits, learner, pool

DATA = digits()
POOL = pool(DATA)


def doubles(pool: Pool) -> np.ndarray:
    """(members, size, classes), a copy: scikit-activeml clips in place what it is given."""
    assert pool.committee is not None
    return pool.committee.astype(float)


def draws(pool: Pool) -> np.ndarray:
    """(size, classes, members), as baal has it."""
    return doubles(pool).transpose(1, 2, 0)


def scikit_committee() -> list[SklearnClassifier]:
    return [SklearnClassifier(learner(), classes=range(10)).fit(*sample) for sample in DATA.training]


@pytest.mark.parametrize(
    ("strategy", "method"),
    [
        (VoteEntropy(), "vote_entropy"),
        (VariationRatio(), "variation_ratios"),
        (ConsensusKL(), "KL_divergence"),
    ],
)
def test_query_by_committee_as_scikit_activeml(strategy: ScoredStrategy, method: str) -> None:
    x, y = DATA.training[0]
    theirs = QueryByCommittee(method=method, random_state=0)
    _, utilities = theirs.query(
        x,
        y.astype(float),
        scikit_committee(),
        fit_ensemble=False,
        candidates=DATA.images,
        return_utilities=True,
    )
    np.testing.assert_allclose(strategy.scores(POOL), utilities[0], atol=1e-6)


def test_bald_as_scikit_activeml() -> None:
    x, y = DATA.training[0]
    picks, utilities = GreedyBALD(random_state=0).query(
        x,
        y.astype(float),
        scikit_committee(),
        fit_ensemble=False,
        candidates=DATA.images,
        batch_size=20,
        return_utilities=True,
    )
    np.testing.assert_allclose(Bald().scores(POOL), utilities[0], atol=1e-6)
    assert Bald().rank(POOL, 20, batch_size=20, seed=0).indices.tolist() == list(picks)


def modal_committee() -> Committee:
    return Committee([ActiveLearner(learner(), X_training=x, y_training=y) for x, y in DATA.training])


@pytest.mark.parametrize(
    ("strategy", "measure"),
    [(VoteEntropy(), modal.vote_entropy), (ConsensusEntropy(), modal.consensus_entropy)],
)
def test_query_by_committee_as_modal(
    strategy: ScoredStrategy, measure: Callable[[Committee, np.ndarray], np.ndarray]
) -> None:
    np.testing.assert_allclose(strategy.scores(POOL), measure(modal_committee(), DATA.images), atol=1e-6)


def test_modal_takes_the_largest_divergence_instead_of_the_mean() -> None:
    # McCallum & Nigam (1998) take the mean over the members; the largest follows the one that is most of an outlier.
    theirs = modal.KL_max_disagreement(modal_committee(), DATA.images)
    p, mean = doubles(POOL), POOL.probabilities
    divergences = (p * np.log(p / mean)).sum(axis=2)
    np.testing.assert_allclose(divergences.max(axis=0), theirs, atol=1e-6)
    np.testing.assert_allclose(divergences.mean(axis=0), ConsensusKL().scores(POOL), atol=1e-6)
    assert highest(POOL, theirs, 50).tolist() != highest(POOL, ConsensusKL().scores(POOL), 50).tolist()


def test_bald_as_baal() -> None:
    ranks, scores = baal.BALD().get_ranks(draws(POOL))
    np.testing.assert_allclose(Bald().scores(POOL), scores, atol=1e-6)
    assert Bald().rank(POOL, 20, batch_size=20, seed=0).indices.tolist() == ranks[:20].tolist()


def test_baal_takes_the_variance_instead_of_the_standard_deviation() -> None:
    # Kampffmeyer et al. (2016) and Gal et al. (2017) take the root before the mean over the classes.
    root = baal.Variance(reduction=lambda variances: np.sqrt(variances).mean(axis=1))
    np.testing.assert_allclose(
        MeanStandardDeviation().scores(POOL), root.get_uncertainties(draws(POOL)), atol=1e-6
    )
    variance = baal.Variance().get_uncertainties(draws(POOL))
    assert (
        highest(POOL, variance, 50).tolist()
        != highest(POOL, MeanStandardDeviation().scores(POOL), 50).tolist()
    )


class Draws:
    """As much of a small-text classifier as BALD asks for: one that has drawn its dropout masks."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def predict_proba(self, dataset: np.ndarray, dropout_sampling: int) -> np.ndarray:
        return doubles(self.pool)[:dropout_sampling].transpose(1, 0, 2)


def test_bald_as_small_text() -> None:
    everything = np.arange(POOL.size)
    picks = bayesian.BALD(MEMBERS).query(
        Draws(POOL), DATA.images, everything, everything[:0], everything[:0], n=20
    )
    # Theirs come in no order.
    assert set(Bald().rank(POOL, 20, batch_size=20, seed=0).indices) == set(picks)


@pytest.mark.parametrize(
    ("power", "theirs"),
    [
        (PowerBald(2), BaalPowerBALD(query_size=1, temperature=0.5)),
        (PowerAcquisition(Entropy()), PowerSampling(baal.Entropy(), query_size=1)),
    ],
)
def test_power_acquisition_draws_with_the_chances_of_baal(
    power: PowerAcquisition, theirs: PowerSampling
) -> None:
    few = POOL.take(np.arange(6))
    # Coldness is one over temperature.
    _, chances = theirs.get_ranks(draws(few))
    scores = power.score.scores(few) ** power.coldness
    np.testing.assert_allclose(scores / scores.sum(), chances, atol=1e-6)
    firsts = [power.rank(few, 1, batch_size=1, seed=seed).indices[0] for seed in range(1000)]
    np.testing.assert_allclose(np.bincount(firsts, minlength=6) / 1000, chances, atol=0.05)


def test_batch_bald_as_scikit_activeml(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = 4
    monkeypatch.setattr(
        "strategies.batch_bald._CONFIGURATIONS", 10**4
    )  # exact for four images of ten classes
    ranking = BatchBald().rank(POOL, batch, batch_size=batch, seed=0)
    # As many draws as these three have configurations: theirs is exact, too.
    theirs = batch_bald(doubles(POOL), batch, n_MC_samples=10**3, eps=1e-12, random_state=0)
    assert ranking.indices.tolist() == np.nanargmax(theirs, axis=1).tolist()
    # Theirs are of the whole batch so far.
    np.testing.assert_allclose(np.cumsum(ranking.scores), np.nanmax(theirs, axis=1), atol=1e-6)
    assert ranking.indices.tolist() != Bald().rank(POOL, batch, batch_size=batch, seed=0).indices.tolist()


def test_batch_bald_of_scikit_activeml_samples_by_default_one_configuration_a_member() -> None:
    # So few that it takes the third for the fourth; the paper takes thousands.
    x, y = DATA.training[0]
    picks = ScikitBatchBALD(random_state=0).query(
        x, y.astype(float), scikit_committee(), fit_ensemble=False, candidates=DATA.images, batch_size=4
    )
    exact = BatchBald().rank(POOL, 4, batch_size=4, seed=0).indices
    assert list(picks) == exact[[0, 1, 3, 2]].tolist()


def test_batch_bald_as_baal() -> None:
    few = POOL.take(np.arange(60))
    torch.manual_seed(0)
    # It adds num_samples to the first, and so chooses one more than that.
    picks = np.flatnonzero(baal.BatchBALD(num_samples=2, num_draw=1000).get_uncertainties(draws(few)))
    assert set(BatchBald().rank(few, 3, batch_size=3, seed=0).indices) == set(picks)
