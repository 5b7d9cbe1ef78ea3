import numpy as np

from strategies import FarthestFromLabeled, Pool
from strategies.distances import BLOCK


def test_distance_to_the_nearest_labeled() -> None:
    pool = Pool(
        4,
        embeddings=np.array([[0.0, 3], [4, 0], [0, 1], [9, 9]]),
        labeled_embeddings=np.array([[0, 0], [9, 8]]),
    )
    assert FarthestFromLabeled().scores(pool).tolist() == [3, 4, 1, 1]
    ranking = FarthestFromLabeled().rank(pool, 2, batch_size=1, seed=0)
    assert ranking.indices.tolist() == [1, 0]
    assert ranking.reasons[0] == "unlike all that is labeled"


def test_nothing_labeled() -> None:
    pool = Pool(2, embeddings=np.eye(2), labeled_embeddings=np.empty((0, 2)))
    assert FarthestFromLabeled().scores(pool).tolist() == [0, 0]
    assert FarthestFromLabeled().reason(pool, 0) == "nothing is labeled yet"


def test_more_labeled_than_a_block_holds() -> None:
    rng = np.random.default_rng(0)
    points, labeled = rng.normal(size=(BLOCK + 5, 3)), rng.normal(size=(2 * BLOCK + 5, 3))
    points, labeled = points.astype(np.float32), labeled.astype(np.float32)
    scores = FarthestFromLabeled().scores(Pool(len(points), embeddings=points, labeled_embeddings=labeled))
    for i in range(0, len(points), 100):
        expected = np.linalg.norm(labeled.astype(float) - points[i], axis=1).min()
        np.testing.assert_allclose(scores[i], expected, rtol=1e-12)
