"""Least confidence, margin and entropy score as scikit-activeml's, modAL's, small-text's and baal's."""

from collections.abc import Callable

import numpy as np
import pytest
from baal.active import heuristics as baal
from modAL import uncertainty as modal
from modAL.models import ActiveLearner
from skactiveml.classifier import SklearnClassifier
from skactiveml.pool import UncertaintySampling
from small_text import (
    BreakingTies,
    ConfidenceBasedQueryStrategy,
    PredictionEntropy,
    SklearnDataset,
)
from small_text import LeastConfidence as SmallTextLeastConfidence
from small_text import SklearnClassifier as SmallTextClassifier

from strategies import Entropy, LeastConfidence, Margin, Pool
from strategies.scored import ScoredStrategy
from tests.peers.committees import digits, learner

DATA = digits()
IMAGES, LABELS = DATA.training[0]
ONE = Pool(len(DATA.images), committee=learner().fit(IMAGES, LABELS).predict_proba(DATA.images)[None])


@pytest.mark.parametrize(
    ("strategy", "method"),
    [(LeastConfidence(), "least_confident"), (Margin(), "margin_sampling"), (Entropy(), "entropy")],
)
def test_scikit_activeml(strategy: ScoredStrategy, method: str) -> None:
    x = np.concatenate([IMAGES, DATA.images])
    y = np.append(LABELS.astype(float), np.full(len(DATA.images), np.nan))
    classifier = SklearnClassifier(learner(), classes=range(10))
    picks, utilities = UncertaintySampling(method=method, random_state=0).query(
        x, y, classifier, batch_size=20, return_utilities=True
    )
    np.testing.assert_allclose(strategy.scores(ONE), utilities[0, len(IMAGES) :], atol=1e-6)
    ours = strategy.rank(ONE, 20, batch_size=20, seed=0).indices
    assert ours.tolist() == (np.array(picks) - len(IMAGES)).tolist()


@pytest.mark.parametrize(
    ("strategy", "measure"),
    [
        (LeastConfidence(), modal.classifier_uncertainty),
        # modAL's margin is the lead itself, the least of which is the most uncertain.
        (Margin(), lambda *given: 1 - modal.classifier_margin(*given)),
        (Entropy(), modal.classifier_entropy),
    ],
)
def test_modal(strategy: ScoredStrategy, measure: Callable[..., np.ndarray]) -> None:
    classifier = ActiveLearner(learner(), X_training=IMAGES, y_training=LABELS)
    np.testing.assert_allclose(strategy.scores(ONE), measure(classifier, DATA.images), atol=1e-6)


@pytest.mark.parametrize(
    ("strategy", "theirs", "score"),
    [
        (LeastConfidence(), SmallTextLeastConfidence(), lambda confidence: 1 - confidence),
        (Margin(), BreakingTies(), lambda confidence: 1 - confidence),
        (Entropy(), PredictionEntropy(), lambda entropy: entropy),
    ],
)
def test_small_text(
    strategy: ScoredStrategy,
    theirs: ConfidenceBasedQueryStrategy,
    score: Callable[[np.ndarray], np.ndarray],
) -> None:
    classifier = SmallTextClassifier(learner(), 10)
    classifier.fit(SklearnDataset(IMAGES, LABELS))
    dataset = SklearnDataset(DATA.images, np.zeros(len(DATA.images), dtype=int))
    everything = np.arange(len(DATA.images))
    picks = theirs.query(classifier, dataset, everything, np.empty(0, int), np.empty(0, int), n=20)
    np.testing.assert_allclose(strategy.scores(ONE), score(theirs.scores_), atol=1e-6)
    # Theirs come in no order.
    assert set(strategy.rank(ONE, 20, batch_size=20, seed=0).indices) == set(picks)


@pytest.mark.parametrize(
    ("strategy", "theirs", "score"),
    [
        (LeastConfidence(), baal.Certainty(), lambda certainty: 1 - certainty),
        (Margin(), baal.Margin(), lambda margin: 1 - margin),
        (Entropy(), baal.Entropy(), lambda entropy: entropy),
    ],
)
def test_baal(
    strategy: ScoredStrategy,
    theirs: baal.AbstractHeuristic,
    score: Callable[[np.ndarray], np.ndarray],
) -> None:
    ranks, scores = theirs.get_ranks(ONE.probabilities)
    np.testing.assert_allclose(strategy.scores(ONE), score(scores), atol=1e-6)
    assert strategy.rank(ONE, 20, batch_size=20, seed=0).indices.tolist() == ranks[:20].tolist()
