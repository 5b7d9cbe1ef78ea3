import numpy as np
import pytest

from strategies import Clue, KMeans, KMeansPlusPlus, LeastConfidence, Pool, Ranking, Representative


def pool(
    embeddings: np.ndarray, certainty: np.ndarray | None = None, labeled: np.ndarray | None = None
) -> Pool:
    """Two classes; `certainty` is the probability of the first."""
    p = np.full(len(embeddings), 0.5) if certainty is None else certainty
    return Pool(
        len(embeddings),
        committee=np.stack([p, 1 - p], axis=1)[None],
        embeddings=embeddings,
        labeled_embeddings=embeddings[:0] if labeled is None else labeled,
    )


def first_batch(strategy: KMeans | Clue, pool: Pool, size: int) -> Ranking:
    return strategy.rank(pool, size, batch_size=size, seed=0)


def test_the_nearest_to_each_centre_largest_cluster_first() -> None:
    """Clusters {0, 1, 5} with centre 2 and {20, 22, 23, 25} with centre 22.5."""
    ranking = first_batch(KMeans(), pool(np.array([[0.0], [1], [5], [20], [22], [23], [25]])), 2)
    assert ranking.indices[1] == 1
    assert ranking.indices[0] in (4, 5)
    np.testing.assert_allclose(ranking.scores, [-0.5, -1], atol=1e-6)
    assert ranking.reasons[1] == "nearest the centre of a cluster of 3 images"


def test_later_batches_come_from_clusters_without_a_pick() -> None:
    rng = np.random.default_rng(0)
    points = 50 * np.eye(4)[np.repeat(np.arange(4), 10)] + rng.normal(size=(40, 4))
    ranking = KMeans().rank(pool(points), 4, batch_size=1, seed=0)
    assert sorted((ranking.indices // 10).tolist()) == [0, 1, 2, 3]


def test_a_large_pool_is_sampled() -> None:
    points = np.random.default_rng(0).normal(size=(21_000, 2))
    ranking = KMeans().rank(pool(points), 700, batch_size=600, seed=0)
    assert len(set(ranking.indices.tolist())) == 700


def test_clue_weighs_by_entropy() -> None:
    """One cluster of 0, 2, 10; only the last two are uncertain, so that the centre is 6, or 2 alone."""
    points = np.array([[0.0], [2], [10]])
    assert first_batch(Clue(), pool(points, np.array([1, 0.5, 0.5])), 1).scores[0] == pytest.approx(-4)
    alone = first_batch(Clue(), pool(points, np.array([1, 0.5, 1])), 1)
    assert alone.indices.tolist() == [1]
    assert alone.reasons[0].endswith("nearest the centre of a cluster of 3 images")


def test_clue_by_another_uncertainty() -> None:
    """Least confidence of 0.5 and 0.25: a centre at (0 · 0.5 + 3 · 0.25) / 0.75 = 1."""
    ranking = first_batch(Clue(LeastConfidence()), pool(np.array([[0.0], [3]]), np.array([0.5, 0.75])), 1)
    assert ranking.indices.tolist() == [0]
    assert ranking.scores[0] == pytest.approx(-1)


def test_clue_takes_the_largest_uncertainty_first() -> None:
    points = np.array([[0.0], [1], [2], [100], [101]])
    certainty = np.array([0.99, 0.99, 0.99, 0.5, 0.5])
    assert first_batch(Clue(), pool(points, certainty), 2).indices[0] >= 3


def test_clue_where_nothing_is_uncertain_is_k_means() -> None:
    certain = pool(np.array([[0.0], [1], [5], [20], [22], [24]]), np.ones(6))
    assert (
        first_batch(Clue(), certain, 2).indices.tolist() == first_batch(KMeans(), certain, 2).indices.tolist()
    )


def test_clue_finds_the_few_that_are_uncertain_in_a_large_pool() -> None:
    points = np.random.default_rng(0).normal(size=(30_000, 2))
    uncertain = np.arange(30_000) < 20
    points[uncertain] += 50
    ranking = first_batch(Clue(), pool(points, np.where(uncertain, 0.5, 1)), 1)
    assert ranking.indices[0] < 20
    assert ranking.scores[0] > -1  # their centre, too


def test_clue_refuses_negative_weights() -> None:
    with pytest.raises(ValueError, match="representative, which is negative for some"):
        first_batch(
            Clue(Representative()), pool(np.array([[1.0, 0], [-1, 1]]), labeled=np.array([[1.0, 0]])), 1
        )


def test_k_means_plus_plus_draws_by_squared_distance() -> None:
    """Distances of 1, 2 and 3 to the labeled image: chances of 1, 4 and 9 in 14."""
    points = np.array([[1.0], [2], [3]])
    draws = np.zeros(3)
    for seed in range(600):
        ranking = KMeansPlusPlus().rank(pool(points, labeled=np.zeros((1, 1))), 1, batch_size=1, seed=seed)
        draws[ranking.indices[0]] += 1
        assert ranking.scores[0] == ranking.indices[0] + 1
    np.testing.assert_allclose(draws / 600, np.array([1, 4, 9]) / 14, atol=0.06)  # three standard errors


def test_k_means_plus_plus_counts_what_is_drawn() -> None:
    """After 0 or 4, whichever is drawn first, the other one is drawn in 16 of 17 cases, rather than 1 or 3."""
    points = np.array([[0.0], [1], [3], [4]])
    far = 0
    for seed in range(400):
        first, second = KMeansPlusPlus().rank(pool(points), 2, batch_size=1, seed=seed).indices.tolist()
        far += abs(points[first, 0] - points[second, 0]) >= 3
    # From 0: 9 + 16 of 26; from 1: 9 of 14, from 3 and 4 the same; on average 0.80.
    assert far / 400 == pytest.approx((25 / 26 + 9 / 14) / 2, abs=0.06)


def test_k_means_plus_plus_takes_repeated_images_last() -> None:
    points = np.array([[0.0], [0], [0], [1], [2]])
    ranking = KMeansPlusPlus().rank(pool(points, labeled=np.zeros((1, 1))), 5, batch_size=2, seed=0)
    assert set(ranking.indices[:2].tolist()) == {3, 4}
    assert ranking.scores[2:].tolist() == [0, 0, 0]
