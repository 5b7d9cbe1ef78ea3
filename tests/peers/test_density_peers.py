"""Density and clusters as scikit-activeml's, modAL's and small-text's; ranked batches as modAL's."""

import numpy as np
import pytest
from modAL.batch import ranked_batch, uncertainty_batch_sampling
from modAL.density import information_density
from modAL.models import ActiveLearner
from scipy.spatial.distance import cosine
from skactiveml.classifier import ParzenWindowClassifier
from skactiveml.pool import UncertaintySampling
from sklearn.linear_model import LogisticRegression
from small_text import EmbeddingKMeans

from strategies import InformationDensity, KMeans, Pool, RankedBatch
from strategies.density import mean_similarity


def test_mean_similarity_as_modal() -> None:
    """modAL's similarity is 1 / (1 + distance), of which the cosine of Settles & Craven is a case."""
    points = np.random.default_rng(0).uniform(0.1, 1, size=(60, 4)).astype(np.float32)
    theirs = information_density(points, metric=lambda a, b: 1 / (1 - cosine(a, b)) - 1)
    np.testing.assert_allclose(mean_similarity(points), theirs, atol=1e-6)


def test_modals_own_similarities_are_others() -> None:
    """1 / (1 + distance) of a cosine distance is no cosine: opposites are a third alike, not at all in the paper."""
    opposite = np.array([[1.0, 0], [-1, 0]], dtype=np.float32)
    np.testing.assert_allclose(information_density(opposite, metric="cosine"), [2 / 3, 2 / 3])
    np.testing.assert_allclose(mean_similarity(opposite), [0, 0])


@pytest.mark.parametrize("beta", [0.5, 1, 3])
def test_information_density_as_scikit_activeml(beta: float) -> None:
    """It takes the density as a weight for its uncertainty, the entropy."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(120, 3)) + 1
    y = np.where(np.arange(120) < 10, rng.integers(3, size=120), np.nan)
    classifier = ParzenWindowClassifier(classes=[0, 1, 2], random_state=0).fit(points, y)
    free = np.arange(10, 120)
    pool = Pool(
        110,
        committee=classifier.predict_proba(points[free])[None],
        embeddings=points[free].astype(np.float32),
    )
    density = mean_similarity(points[free].astype(np.float32))
    theirs, utilities = UncertaintySampling(method="entropy", random_state=0).query(
        points,
        y,
        classifier,
        fit_clf=False,
        candidates=free,
        utility_weight=np.append(np.zeros(10), density**beta),
        return_utilities=True,
    )
    strategy = InformationDensity(beta=beta)
    np.testing.assert_allclose(strategy.scores(pool), utilities[0, free], atol=1e-6)
    assert free[strategy.rank(pool, 1, batch_size=1, seed=0).indices].tolist() == theirs.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_ranked_batch_as_modal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labeled, points = (
        rng.normal(size=(15, 4)).astype(np.float32),
        rng.normal(size=(200, 4)).astype(np.float32),
    )
    learner = ActiveLearner(LogisticRegression(), X_training=labeled, y_training=np.arange(15) % 3)
    theirs, _ = uncertainty_batch_sampling(learner, points, n_instances=60)
    pool = Pool(
        200,
        committee=learner.predict_proba(points)[None],
        embeddings=points,
        labeled_embeddings=labeled,
    )
    ours = RankedBatch().rank(pool, 60, batch_size=10, seed=0)
    assert ours.indices.tolist() == theirs.tolist()


def test_ranked_batch_of_modal_without_labels_repeats_its_first_pick() -> None:
    """It leaves its first pick, here an uncertain one, among the candidates. Its first is the image with the least
    mean distance to all, ours that with the least mean squared distance, which takes no matrix of pairs."""
    points = np.array([[0.0], [1], [2], [10]], dtype=np.float32)
    learner = ActiveLearner(LogisticRegression())
    theirs, _ = ranked_batch(learner, points, np.array([0, 1, 0, 0]), 4, "euclidean", None)
    assert len(set(theirs.tolist())) < 4
    pool = Pool(4, committee=np.full((1, 4, 2), 0.5), embeddings=points, labeled_embeddings=np.empty((0, 1)))
    ours = RankedBatch().rank(pool, 4, batch_size=1, seed=0)
    assert sorted(ours.indices.tolist()) == [0, 1, 2, 3]
    assert ours.indices[0] == 2  # the mean is 3.25
    assert theirs[0] == 1


def test_k_means_as_small_text() -> None:
    """The same images of unit length; theirs come in the order of their clusters, ours the largest cluster first."""
    rng = np.random.default_rng(0)
    which = np.repeat(np.arange(4), [40, 30, 20, 10])
    points = 20 * np.eye(4)[which] + rng.normal(size=(100, 4))
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    free = np.arange(2, 100)
    theirs = EmbeddingKMeans(normalize=False).sample(
        None, None, free, np.arange(2), np.array([0, 1]), 4, points
    )
    ours = KMeans().rank(Pool(98, embeddings=points[free]), 4, batch_size=4, seed=0)
    assert set(ours.indices.tolist()) == set(theirs.tolist())
    assert which[free[ours.indices]].tolist() == [0, 1, 2, 3]
