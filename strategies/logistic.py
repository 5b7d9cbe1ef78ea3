"""Which of two kinds an image is of: logistic regression on its embedding, regularised for few examples.

Rows are centred and divided by one common scale, so that their mean squared norm is 1: scaling each dimension by its
own spread would blow the small principal components of an embedding up into noise.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strategies.distances import BLOCK
from strategies.pool import Floats, Scores

# Variance of the Gaussian prior on the weights of scaled rows. Of 0.1 to 1000, it is the one that told a learner's
# mistakes on digits and Fashion-MNIST with the least log loss; only with 20 validation images was 1 a little better.
_VARIANCE = 3.0


@dataclass(frozen=True, eq=False)
class LogisticModel:
    """The log odds of the second kind: `weight` (dimensions,) times the row, plus `bias`."""

    weight: NDArray[np.float64]
    bias: float

    @classmethod
    def fit(cls, rows: Floats, second: NDArray[np.bool_], weights: Scores | None = None) -> "LogisticModel":
        """Fits to (n, dimensions) rows, of which `second` (n,) are of the second kind; there must be both.

        weights: (n,) how much each row counts.
        """
        from sklearn.linear_model import LogisticRegression  # takes seconds, and few strategies come here

        centre = rows.mean(axis=0, dtype=np.float64)
        centred = rows - centre
        scale = max(float(np.sqrt(np.einsum("nd,nd->", centred, centred) / len(rows))), 1e-6)
        model = LogisticRegression(C=_VARIANCE, tol=1e-8, max_iter=1000)
        model.fit(centred / scale, second, sample_weight=weights)
        # Rounded, because the last bits differ from machine to machine.
        weight = (model.coef_[0] / scale).astype(np.float32).astype(np.float64)
        return cls(weight, float(np.float32(model.intercept_[0] - weight @ centre)))

    def probabilities(self, rows: Floats) -> Scores:
        """(n,) the probability that each row is of the second kind."""
        log_odds: Scores = np.empty(len(rows))
        for start in range(0, len(rows), BLOCK):
            # A row's own sum, not a matrix product, whose last bits depend on where the row stands.
            log_odds[start : start + BLOCK] = (rows[start : start + BLOCK] * self.weight).sum(axis=1)
        # Within what double precision tells from 0 and 1, which neither is.
        np.clip(log_odds + self.bias, -36, 36, out=log_odds)
        probabilities: Scores = 1 / (1 + np.exp(-log_odds))
        return probabilities
