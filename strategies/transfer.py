"""Active transfer learning: a second model learns from validation where the learner is wrong, and looks for more.

Both strategies follow Munro (Human-in-the-Loop Machine Learning, 2021, chapter 5): images that the learner was not
trained on are labeled correct or incorrect by whether its prediction was, and a binary model of the input of the
learner's last layer is fitted to them. That model is a logistic regression, which few validation images suffice for.

Where there is no validation yet, or the learner is right on all of it or wrong on all of it, there is nothing to
fit. Then the learner's own expectation to be wrong decides, which is least confidence.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from strategies.adaptive import choose_adaptively
from strategies.logistic import LogisticModel
from strategies.pool import Indices, Need, Pool, Scores, Validation
from strategies.protocol import Ranking, check_request
from strategies.scored import ScoredStrategy
from strategies.uncertainty import LeastConfidence

_NEEDS = frozenset({Need.VALIDATION, Need.FEATURES, Need.PROBABILITIES})
_OWN_EXPECTATION = LeastConfidence()


@dataclass(frozen=True)
class ActiveTransferLearning(ScoredStrategy):
    """Active transfer learning for uncertainty: the probability that the learner is wrong (Munro, 2021, 5.3)."""

    name = "active_transfer_learning"
    needs = _NEEDS

    def scores(self, pool: Pool) -> Scores:
        model = _model_of_mistakes(pool.require_validation())
        if model is None:
            return _OWN_EXPECTATION.scores(pool)
        return model.probabilities(pool.require(Need.FEATURES))

    def reason(self, pool: Pool, index: int) -> str:
        model = _model_of_mistakes(pool.require_validation())
        if model is None:
            return _OWN_EXPECTATION.reason(pool, index)
        return _reason(float(model.probabilities(pool.require(Need.FEATURES)[[index]])[0]))


@dataclass(frozen=True)
class Atlas:
    """Active transfer learning for adaptive sampling: ATLAS (Munro, 2021, 5.4).

    Within a batch, a tenth of it at a time: the learner will have learned what is chosen, so those images are taken
    to be correct from then on and the binary model is fitted anew. It turns to other mistakes by itself. Past the
    first batch, mini-batches grow with the ranking, to a quarter of what comes before them.
    """

    name = "atlas"
    needs = _NEEDS

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """The images likeliest to be wrong, given that those before them are learned. Scores are of that time."""
        check_request(size, batch_size)
        validation, features = pool.require_validation(), pool.require(Need.FEATURES)
        if _model_of_mistakes(validation) is None:
            return _OWN_EXPECTATION.rank(pool, size, batch_size=batch_size, seed=seed)

        def expected_mistakes(picks: Indices) -> Scores:
            rows = np.concatenate([validation.features, features[picks]])
            wrong = np.append(~validation.correct, np.zeros(len(picks), dtype=bool))
            return LogisticModel.fit(rows, wrong).probabilities(features)

        picks, scores = choose_adaptively(pool, size, batch_size, expected_mistakes)
        return Ranking(picks, scores, tuple(_reason(score) for score in scores))


@lru_cache(maxsize=1)  # the reasons of a ranking are of one pool
def _model_of_mistakes(validation: Validation) -> LogisticModel | None:
    correct = validation.correct
    return LogisticModel.fit(validation.features, ~correct) if 0 < correct.sum() < len(correct) else None


def _reason(probability: float) -> str:
    return f"the model of the learner's mistakes expects it to be wrong here ({probability:.0%})"
