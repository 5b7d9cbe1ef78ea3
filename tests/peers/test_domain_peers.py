"""Discriminative active learning chooses what scikit-activeml's chooses."""

import numpy as np
import pytest
from skactiveml.classifier import SklearnClassifier
from skactiveml.pool import DiscriminativeAL
from sklearn.linear_model import LogisticRegression

from strategies import Discriminative, Pool


@pytest.mark.parametrize("seed", range(5))
def test_picks_as_scikit_activeml(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(60, 5)) + rng.normal(scale=2, size=5)
    rows = rows - rows.mean(axis=0)
    rows = rows / np.sqrt((rows**2).sum() / len(rows))  # as ours scales them
    y = np.where(np.arange(60) < 12, 0.0, np.nan)
    for _ in range(10):
        labeled, unlabeled = np.flatnonzero(~np.isnan(y)), np.flatnonzero(np.isnan(y))
        ours = Discriminative().rank(
            Pool(len(unlabeled), embeddings=rows[unlabeled], labeled_embeddings=rows[labeled]),
            1,
            batch_size=1,
            seed=0,
        )
        smaller = min(len(labeled), len(unlabeled))
        logistic = LogisticRegression(
            C=3, tol=1e-8, class_weight={0: smaller / len(labeled), 1: smaller / len(unlabeled)}
        )
        theirs, utilities = DiscriminativeAL(random_state=0).query(
            rows, y, discriminator=SklearnClassifier(logistic, classes=[0, 1]), return_utilities=True
        )
        assert unlabeled[ours.indices[0]] == theirs[0]
        assert ours.scores[0] == pytest.approx(utilities[0, theirs[0]], abs=1e-6)
        y[theirs] = 0
