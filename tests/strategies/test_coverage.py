import numpy as np
import pytest

from strategies import Margin, MaxHerding, Pool, ProbCover, Ranking, UncertaintyHerding
from strategies.clustering import k_means
from strategies.coverage import _pure_square, _worth
from strategies.distances import Space


def rank(strategy: MaxHerding | ProbCover, embeddings: np.ndarray, labeled: np.ndarray, size: int) -> Ranking:
    pool = Pool(len(embeddings), embeddings=embeddings, labeled_embeddings=labeled)
    return strategy.rank(pool, size, batch_size=3, seed=0)


def every_gain_for_every_pick(
    similarity: np.ndarray, covered: np.ndarray, size: int
) -> tuple[list[int], list[float]]:
    """Greedy maximum coverage as the papers have it."""
    picks, scores = [], []
    for _ in range(size):
        gains = np.maximum(similarity - covered, 0).mean(axis=1)
        gains[picks] = -1
        picks.append(int(gains.argmax()))
        scores.append(gains[picks[-1]])
        covered = np.maximum(covered, similarity[picks[-1]])
    return picks, scores


def test_prob_cover_by_hand() -> None:
    """With radius 1.5: 1 covers 0, 1, 2; then 10 and 11 cover each other; then 20 covers itself."""
    points = np.array([[0.0], [1], [2], [10], [11], [20]])
    ranking = rank(ProbCover(delta=1.5), points, np.empty((0, 1)), 6)
    assert ranking.indices[0] == 1
    assert ranking.indices[1] in (3, 4)
    assert ranking.indices[2] == 5
    np.testing.assert_allclose(ranking.scores, [3 / 6, 2 / 6, 1 / 6, 0, 0, 0])
    assert sorted(ranking.indices.tolist()) == [0, 1, 2, 3, 4, 5]
    assert ranking.reasons[0] == "near 50.00% of the pool that nothing labeled or chosen before is near"
    assert ranking.reasons[-1].startswith("drawn at random")


def test_what_is_labeled_covers() -> None:
    points = np.array([[0.0], [1], [2], [10], [11], [20]])
    ranking = rank(ProbCover(delta=1.5), points, np.array([[1.4]]), 2)
    assert ranking.indices[0] in (3, 4)
    assert ranking.indices[1] == 0 or ranking.indices[1] == 5  # 0 is 1.4 away, and covered
    np.testing.assert_allclose(ranking.scores, [2 / 6, 1 / 6])


def test_a_ball_is_open() -> None:
    ranking = rank(ProbCover(delta=1), np.array([[0.0], [1], [2]]), np.empty((0, 1)), 1)
    np.testing.assert_allclose(ranking.scores, [1 / 3])


def test_delta_is_the_largest_with_pure_balls() -> None:
    """Against trying all distances there are, as the paper does with some."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(60, 3)).astype(np.float32)
    space = Space(points)
    labels = k_means(space, 4, seed=0).labels.numpy()
    distances = np.linalg.norm(points[:, None].astype(float) - points, axis=2)
    pure = [d for d in np.unique(distances)[1:] if _purity(distances, labels, d) >= 0.95]
    assert _pure_square(space, 4, seed=0) ** 0.5 == pytest.approx(max(pure), rel=1e-6)


def _purity(distances: np.ndarray, labels: np.ndarray, delta: float) -> float:
    """Share of the balls that hold images of one cluster only; the smallest difference is for rounding."""
    return float(np.mean([len(set(labels[row < delta * (1 - 1e-9)])) == 1 for row in distances]))


def test_delta_follows_the_number_of_classes() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 2)) + 8 * np.eye(2)[rng.integers(2, size=200)]
    two = Pool(200, embeddings=points, labeled_embeddings=points[:0], classes=("cat", "dog"))
    # Balls that leave one of two clouds in few places cover most of it.
    assert ProbCover().rank(two, 1, batch_size=1, seed=0).scores[0] > 0.3
    assert rank(ProbCover(), points, points[:0], 1).scores[0] < 0.2  # ten parts


def test_max_herding_by_hand() -> None:
    """Directions at 0°, 90° and 45°: squared distances 2 and 2 − √2. The one between is most like all."""
    points = np.array([[1.0, 0], [0, 5], [2, 2]])
    ranking = rank(MaxHerding(), points, np.empty((0, 2)), 3)
    near, far = np.exp(-(2 - 2**0.5)), np.exp(-2.0)
    assert ranking.indices[0] == 2
    np.testing.assert_allclose(
        ranking.scores, [(1 + 2 * near) / 3, (1 - near) / 3, (1 - near) / 3], rtol=1e-6
    )
    labeled = rank(MaxHerding(), points, np.array([[3.0, 0]]), 1)
    # The second adds 1 − far to itself; the third as much, near − far to the second and 1 − near to itself.
    np.testing.assert_allclose(labeled.scores, [(1 - far) / 3], rtol=1e-6)


@pytest.mark.parametrize("bandwidth", [0.2, 1, 3])
def test_lazy_is_exact(bandwidth: float) -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(size=(600, 4)) + 2 * rng.normal(size=(9, 4))[rng.integers(9, size=600)]
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    similarity = np.exp(-((np.linalg.norm(unit[:, None] - unit, axis=2) / bandwidth) ** 2))
    picks, scores = every_gain_for_every_pick(similarity, similarity[:5].max(axis=0), 60)
    ranking = rank(MaxHerding(bandwidth), points, points[:5], 60)
    np.testing.assert_allclose(ranking.scores, scores, atol=1e-6)
    same = [i for i in range(60) if ranking.indices[i] != picks[i]]
    assert not same or scores[same[0]] < 1e-5  # beyond which single precision decides


def test_a_large_pool_is_covered_by_a_sample() -> None:
    """Three clouds, each covered by any one of its images."""
    rng = np.random.default_rng(0)
    points = np.repeat(20 * np.eye(3), [8000, 2500, 500], axis=0) + rng.normal(size=(11_000, 3)) / 20
    ranking = rank(ProbCover(delta=1), points, points[:0], 4)
    np.testing.assert_allclose(ranking.scores, [8 / 11, 2.5 / 11, 0.5 / 11, 0], atol=0.014)


def test_more_picks_than_a_sample_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strategies.coverage._SAMPLE", 100)
    points = np.random.default_rng(0).normal(size=(250, 2))
    for strategy in (MaxHerding(), ProbCover(delta=0.5)):
        ranking = rank(strategy, points, points[:3], 250)
        assert sorted(ranking.indices.tolist()) == list(range(250))
        # No pick covers anything that a pick of an earlier sample covers already.
        assert ranking.scores[100:].sum() < ranking.scores[:100].sum()


@pytest.mark.parametrize(("parameter", "value"), [("delta", 0), ("delta", float("nan")), ("classes", 1)])
def test_parameters_that_are_none(parameter: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{parameter} is"):
        ProbCover(**{parameter: value})


def test_a_bandwidth_that_is_none() -> None:
    with pytest.raises(ValueError, match="bandwidth is"):
        MaxHerding(bandwidth=0)


def undecided(embeddings: np.ndarray, doubt: np.ndarray, labeled: np.ndarray) -> Pool:
    """Of two classes; `doubt` is the least confidence, from 0 to 1/2, and so half of the margin's score."""
    committee = np.stack([1 - doubt, doubt], axis=1)[None]
    return Pool(len(embeddings), committee=committee, embeddings=embeddings, labeled_embeddings=labeled)


def test_uncertainty_herding_counts_images_by_how_unsure_the_model_is() -> None:
    rng = np.random.default_rng(0)
    points, doubt, labeled = rng.normal(size=(80, 3)), rng.uniform(0, 0.5, size=80), rng.normal(size=(4, 3))
    ranking = UncertaintyHerding().rank(undecided(points, doubt, labeled), 20, batch_size=5, seed=0)
    unit, centers = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (points, labeled))
    similarity = np.exp(-np.square(np.linalg.norm(unit[:, None] - unit, axis=2)))
    covered = np.exp(-np.square(np.linalg.norm(unit[:, None] - centers, axis=2))).max(axis=1)
    picks: list[int] = []
    for _ in range(20):
        gains = (np.maximum(similarity - covered, 0) * doubt).sum(axis=1) / doubt.sum()
        picks.append(int(gains.argmax()))
        assert ranking.scores[len(picks) - 1] == pytest.approx(gains.max(), abs=1e-6)
        covered = np.maximum(covered, similarity[picks[-1]])
    assert ranking.indices.tolist() == picks
    assert ranking.reasons[0].startswith("between class 0")


def test_uncertainty_herding_of_the_evenly_unsure_is_max_herding() -> None:
    points = np.random.default_rng(1).normal(size=(60, 4))
    pool = undecided(points, np.full(60, 0.3), points[:3])
    one = UncertaintyHerding().rank(pool, 30, batch_size=5, seed=0)
    other = MaxHerding().rank(pool, 30, batch_size=5, seed=0)
    assert one.indices.tolist() == other.indices.tolist()
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)


def test_a_sample_stands_for_all_by_what_its_images_count() -> None:
    """The chance to be drawn times what an image counts is its weight, and the chances sum to the sample's size."""
    weights = np.random.default_rng(2).pareto(1, size=1000)  # some heavy enough to be drawn for sure
    worth = _worth(weights, 200)
    chances = weights / worth
    assert chances.max() == 1 and (chances == 1).sum() > 1
    assert chances.sum() == pytest.approx(200)
    assert _worth(weights, 1000).tolist() == weights.tolist()


def test_of_a_larger_pool_the_uncertain_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strategies.coverage._SAMPLE", 100)
    rng = np.random.default_rng(3)
    points = rng.normal(size=(2000, 3))
    doubt = np.where(np.arange(2000) < 100, 0.5, 0.001)
    ranking = UncertaintyHerding().rank(undecided(points, doubt, points[:0]), 20, batch_size=5, seed=0)
    assert (ranking.indices < 100).mean() > 0.8  # 1 in 20 of the pool


def test_uncertainty_that_is_negative() -> None:
    class Negative(Margin):
        def scores(self, pool: Pool) -> np.ndarray:
            return super().scores(pool) - 1

    with pytest.raises(ValueError, match="margin, which is negative for some"):
        UncertaintyHerding(Negative()).rank(
            undecided(np.eye(3), np.full(3, 0.1), np.eye(3)), 1, batch_size=1, seed=0
        )
    with pytest.raises(ValueError, match="bandwidth is 0"):
        UncertaintyHerding(bandwidth=0)
