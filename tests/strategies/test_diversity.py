import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from strategies import KCenterGreedy, Pool, Ranking
from strategies.distances import BLOCK


def rank(embeddings: np.ndarray, labeled: np.ndarray, size: int) -> Ranking:
    pool = Pool(len(embeddings), embeddings=embeddings, labeled_embeddings=labeled)
    return KCenterGreedy().rank(pool, size, batch_size=3, seed=0)


def every_image_with_every_centre(
    embeddings: np.ndarray, labeled: np.ndarray, size: int
) -> tuple[list[int], np.ndarray]:
    """Greedy k-center as the paper has it. The labeled set may not be empty."""
    points, centers = embeddings.astype(float), list(labeled.astype(float))
    picks, scores = [], []
    distances = np.min([np.linalg.norm(points - c, axis=1) for c in centers], axis=0)
    for _ in range(size):
        pick = int(distances.argmax())
        picks.append(pick)
        scores.append(distances[pick])
        distances = np.minimum(distances, np.linalg.norm(points - points[pick], axis=1))
        distances[picks] = -1
    return picks, np.array(scores)


def test_on_a_line() -> None:
    line = np.array([[1.0], [2], [7], [10]])
    ranking = rank(line, np.array([[0.0]]), 4)
    assert ranking.indices.tolist() == [3, 2, 1, 0]  # 10; then 7 is 3 away, 2 is 2; then 2; then 1
    assert ranking.scores.tolist() == [10, 3, 2, 1]
    assert ranking.reasons[0] == "unlike all that is labeled or chosen before it (distance 10)"


def test_nothing_labeled_starts_at_the_centre() -> None:
    ranking = rank(np.array([[0.0], [4], [5], [10]]), np.empty((0, 1)), 3)
    assert ranking.indices.tolist() == [2, 3, 0] or ranking.indices.tolist() == [2, 0, 3]
    np.testing.assert_allclose(ranking.scores, [5, 5, 5])
    assert ranking.reasons[0] == "nearest the centre of the pool"


@pytest.mark.parametrize("labeled", [0, 1])
def test_a_pool_of_one(labeled: int) -> None:
    ranking = rank(np.ones((1, 2)), np.zeros((labeled, 2)), 5)
    assert ranking.indices.tolist() == [0]
    np.testing.assert_allclose(ranking.scores, [2**0.5 if labeled else 0])


@pytest.mark.parametrize("kind", ["one cloud", "clusters", "outlier"])
def test_more_images_than_a_front_holds(kind: str) -> None:
    rng = np.random.default_rng(3)
    points = rng.normal(size=(3 * BLOCK, 8))
    if kind == "clusters":
        points = (
            points * rng.random((len(points), 1))
            + 5 * rng.normal(size=(12, 8))[rng.integers(12, size=len(points))]
        )
    if kind == "outlier":
        points[17] = 1e5
    points = points.astype(np.float32)
    picks, scores = every_image_with_every_centre(points, points[:2] + 1, 400)
    ranking = rank(points, points[:2] + 1, 400)
    assert ranking.indices.tolist() == picks
    np.testing.assert_allclose(ranking.scores, scores, rtol=1e-6)


def test_far_from_the_origin() -> None:
    points = np.random.default_rng(4).normal(size=(500, 4)).astype(np.float32) + 1000
    picks, _ = every_image_with_every_centre(points, points[:1], 100)
    assert rank(points, points[:1], 100).indices.tolist() == picks


def test_near_duplicates_beyond_the_reach_of_matrix_products() -> None:
    """Frames of ten scenes that differ in their last bits: |a|² + |b|² − 2ab cannot tell them apart."""
    rng = np.random.default_rng(6)
    scenes = rng.normal(size=(10, 16))[rng.integers(10, size=600)]
    points = (scenes + 1e-6 * rng.normal(size=scenes.shape)).astype(np.float32)
    picks, scores = every_image_with_every_centre(points, points[:1], 200)
    ranking = rank(points, points[:1], 200)
    assert ranking.indices.tolist() == picks
    np.testing.assert_allclose(ranking.scores, scores, rtol=1e-12)
    assert ranking.scores[100] < 1e-5


def test_repeated_images_come_last_and_once_each() -> None:
    points = np.repeat(np.random.default_rng(5).normal(size=(4, 3)), 1000, axis=0)
    ranking = rank(points, np.empty((0, 3)), 1500)
    assert sorted((ranking.indices[:4] // 1000).tolist()) == [0, 1, 2, 3]
    assert len(set(ranking.indices.tolist())) == 1500
    assert not ranking.scores[4:].any()


@settings(deadline=None, max_examples=60)
@given(
    arrays(np.float32, st.tuples(st.integers(2, 30), st.just(3)), elements=st.integers(-3, 3)),
    st.integers(1, 30),
)
def test_each_pick_is_a_farthest_one(points: np.ndarray, size: int) -> None:
    """On a grid, with many ties: whichever of the tied is taken, no image was farther."""
    labeled, pool = points[:1], points[1:]
    ranking = rank(pool, labeled, size)
    centers = [labeled[0]]
    left = set(range(len(pool)))
    for index, score in zip(ranking.indices.tolist(), ranking.scores, strict=True):
        nearest = {i: min(np.linalg.norm(pool[i] - c) for c in centers) for i in left}
        assert nearest[index] == pytest.approx(max(nearest.values()), abs=1e-5)
        assert score == pytest.approx(nearest[index], abs=1e-5)
        centers.append(pool[index])
        left.remove(index)
    assert len(ranking) == min(size, len(pool))
