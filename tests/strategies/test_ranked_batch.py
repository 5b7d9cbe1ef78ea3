import numpy as np
import pytest
from scipy.spatial.distance import cdist

from strategies import LeastConfidence, Pool, RankedBatch


def pool(embeddings: np.ndarray, labeled: np.ndarray, certainty: np.ndarray) -> Pool:
    """Two classes; `certainty` is the probability of the likelier."""
    return Pool(
        len(embeddings),
        committee=np.stack([certainty, 1 - certainty], axis=1)[None],
        embeddings=embeddings,
        labeled_embeddings=labeled,
    )


def test_by_hand() -> None:
    """One labeled image at 0; the pool at 1, 3 and 4, uncertain by 0.5, 0, 0.

    First α = 3/4 and dissimilarities 1/2, 3/4, 4/5: scores .5, .5625, .6. Then α = 2/4 and, with 4 picked, 1/2, 1/2:
    .5 and .25. Then α = 1/4, and 3 is 1 away from 4 still.
    """
    ranking = RankedBatch().rank(
        pool(np.array([[1.0], [3], [4]]), np.zeros((1, 1)), np.array([0.5, 1, 1])), 3, batch_size=1, seed=0
    )
    assert ranking.indices.tolist() == [2, 0, 1]
    np.testing.assert_allclose(ranking.scores, [0.6, 0.5, 0.125])
    assert (
        ranking.reasons[1]
        == "most likely class 0, with only 50%; and unlike all that is labeled or chosen before it"
    )


def test_nothing_labeled_starts_at_the_centre() -> None:
    ranking = RankedBatch().rank(
        pool(np.array([[0.0], [4], [11]]), np.empty((0, 1)), np.ones(3)), 3, batch_size=1, seed=0
    )
    assert ranking.indices.tolist() == [1, 2, 0]
    assert ranking.reasons[0] == "nearest the centre of the pool"


@pytest.mark.parametrize("labeled", [1, 20, 1000])
def test_lazy_is_exact(labeled: int) -> None:
    rng = np.random.default_rng(labeled)
    points = rng.normal(size=(700, 6)).astype(np.float32)
    known = rng.normal(size=(labeled, 6)).astype(np.float32)
    certainty = rng.uniform(0.5, 1, size=700)
    uncertainty = LeastConfidence().scores(pool(points, known, certainty))
    centers, picks, scores = known.astype(float), [], []
    for turn in range(80):
        distance = cdist(points, centers).min(axis=1)
        alpha = (700 - turn) / (700 + labeled)
        score = alpha * (1 - 1 / (1 + distance)) + (1 - alpha) * uncertainty
        score[picks] = -1
        picks.append(int(score.argmax()))
        scores.append(score[picks[-1]])
        centers = np.append(centers, points[picks[-1:]], axis=0)
    ranking = RankedBatch().rank(pool(points, known, certainty), 80, batch_size=7, seed=0)
    assert ranking.indices.tolist() == picks
    np.testing.assert_allclose(ranking.scores, scores, atol=1e-9)
