from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from strategies import (
    Balance,
    Entropy,
    Factor,
    KCenterGreedy,
    LeastConfidence,
    Margin,
    Need,
    Objective,
    Pool,
    Product,
    Ranking,
    ScoredStrategy,
)
from strategies.greedy import Greedy
from strategies.pool import Indices, Scores

CLASSES = 4
WEATHER = np.array(["fog", "rain", "sun"])
OBJECTIVES: tuple[Objective, ...] = (Margin(), KCenterGreedy(), Balance())


def line(uncertainty: list[float], places: list[float], labeled: list[float]) -> Pool:
    """Images on a line, whose least confidence is given."""
    u = np.array(uncertainty)
    return Pool(
        len(u),
        committee=np.stack([1 - u, u], axis=1)[None],
        embeddings=np.array(places)[:, None],
        labeled_embeddings=np.array(labeled).reshape(-1, 1),
    )


def random_pool(size: int, seed: int, *, labeled: int = 20, clusters: int = 7) -> Pool:
    rng = np.random.default_rng(seed)
    spread = rng.random((size + labeled, 1))
    points = (
        rng.normal(size=(size + labeled, 6)) * spread
        + 3 * rng.normal(size=(clusters, 6))[rng.integers(clusters, size=size + labeled)]
    )
    points = points.astype(np.float32)
    return Pool(
        size,
        committee=rng.dirichlet(np.full(CLASSES, 0.4), size=(2, size)),
        embeddings=points[labeled:],
        labeled_embeddings=points[:labeled],
        labeled_targets=np.eye(CLASSES)[rng.choice(CLASSES, size=labeled, p=[0.6, 0.2, 0.1, 0.1])],
        groups={"weather": rng.choice(WEATHER, p=[0.05, 0.25, 0.7], size=size)},
        labeled_groups={"weather": rng.choice(["rain", "sun"], size=labeled)},
    )


def every_image_for_every_pick(
    pool: Pool, objectives: Sequence[Objective], strengths: Sequence[float], size: int
) -> Indices:
    """The definition: all products anew for each pick, by distances to all centres and all counts."""
    assert pool.embeddings is not None and pool.labeled_embeddings is not None
    points, centers = pool.embeddings.astype(float), list(pool.labeled_embeddings.astype(float))
    distances = np.min([np.linalg.norm(points - c, axis=1) for c in centers], axis=0)
    counts = {i: _labeled(pool, o) for i, o in enumerate(objectives) if isinstance(o, Balance)}
    picks: list[int] = []
    for _ in range(size):
        zeros, product = np.zeros(pool.size), np.ones(pool.size)
        for i, (objective, strength) in enumerate(zip(objectives, strengths, strict=True)):
            if isinstance(objective, KCenterGreedy):
                factor = distances
            elif isinstance(objective, Balance):
                shares = _shares(objective)
                fair = shares * np.count_nonzero(shares)
                factor = _members(pool, objective) @ (fair / np.where(fair > 0, fair + counts[i], 1))
            else:
                assert isinstance(objective, ScoredStrategy)
                factor = objective.scores(pool)
            zeros += factor == 0
            product *= np.where(factor == 0, 1, factor) ** strength
        product[picks] = -1
        zeros[picks] = 99
        pick = int(np.lexsort((-product, zeros))[0])
        picks.append(pick)
        distances = np.minimum(distances, np.linalg.norm(points - points[pick], axis=1))
        for i, objective in enumerate(objectives):
            if isinstance(objective, Balance):
                counts[i] += _members(pool, objective)[pick]
    return np.array(picks)


def _members(pool: Pool, balance: Balance) -> NDArray[np.float64]:
    if balance.over == "weather":
        return (pool.group("weather")[:, None] == WEATHER).astype(float)
    return pool.probabilities


def _labeled(pool: Pool, balance: Balance) -> NDArray[np.float64]:
    assert pool.labeled_targets is not None
    if balance.over == "weather":
        return (pool.labeled_groups["weather"][:, None] == WEATHER).sum(axis=0).astype(float)
    return pool.labeled_targets.sum(axis=0).astype(float)


def _shares(balance: Balance) -> NDArray[np.float64]:
    names = WEATHER if balance.over == "weather" else [str(index) for index in range(CLASSES)]
    target = balance.target if isinstance(balance.target, dict) else dict.fromkeys(names, 1.0)
    return np.array([target.get(name, 0) for name in names]) / sum(target.values())


def test_diversity_times_uncertainty_on_a_line() -> None:
    pool = line([0.5, 0.4, 0.1, 0.3], [2, 3, 10, 7], labeled=[0])
    ranking = Product((LeastConfidence(), KCenterGreedy())).rank(pool, 4, batch_size=2, seed=0)
    # 0.5 × 2, 0.4 × 3, 0.1 × 10, 0.3 × 7; then 2, 3, 3 and 0.5 × 2 = 1, 0.4 × 3 = 1.2, 0.1 × 3; then 0.5 × 1, 0.1 × 3.
    assert ranking.indices.tolist() == [3, 1, 0, 2]
    np.testing.assert_allclose(ranking.scores**2, [2.1, 1.2, 0.5, 0.3], rtol=1e-6)
    assert ranking.reasons[1] == (
        "most likely class 0, with only 60%; unlike all that is labeled or chosen before it (distance 3)"
    )


def test_strengths() -> None:
    pool = line([0.5, 0.1], [1, 3], labeled=[0])
    uncertain, far = LeastConfidence(), KCenterGreedy()
    orders = {
        strengths: Product((uncertain, far), strengths).rank(pool, 2, batch_size=1, seed=0).indices.tolist()
        for strengths in [(1.0, 1.0), (1.0, 2.0), (10.0, 20.0), (0.5, 0.5)]
    }
    assert orders == {(1, 1): [0, 1], (1, 2): [1, 0], (10, 20): [1, 0], (0.5, 0.5): [0, 1]}


def test_an_objective_of_zero_comes_last_and_the_others_decide_among_those() -> None:
    pool = line([0, 0.01, 0, 0, 0.5], [9, 1, 10, 1, 1], labeled=[0])
    ranking = Product((LeastConfidence(), KCenterGreedy())).rank(pool, 5, batch_size=1, seed=0)
    # The last one first. That leaves two images that repeat it and two that are certain: the far ones of these are
    # better than the one that repeats it and is uncertain, by no factor of 0 more and the larger other one.
    assert ranking.indices.tolist() == [4, 2, 0, 1, 3]
    assert ranking.scores[1:].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("strengths", [(1, 1, 1), (2, 0.5, 1), (0.3, 3, 0.1)])
def test_the_same_picks_as_every_image_for_every_pick(strengths: tuple[float, ...]) -> None:
    pool = random_pool(3000, seed=1)
    ranking = Product(OBJECTIVES, strengths).rank(pool, 300, batch_size=20, seed=0)
    expected = every_image_for_every_pick(pool, OBJECTIVES, strengths, 300)
    assert ranking.indices.tolist() == expected.tolist()


def test_what_has_no_share_comes_last_in_the_order_of_the_other_objectives() -> None:
    pool = random_pool(3000, seed=4)
    objectives = (Margin(), KCenterGreedy(), Balance("weather", {"fog": 1, "rain": 2}), Balance())
    size = int((pool.group("weather") != "sun").sum()) + 100
    ranking = Product(objectives).rank(pool, size, batch_size=20, seed=0)
    expected = every_image_for_every_pick(pool, objectives, [1] * 4, size)
    assert ranking.indices.tolist() == expected.tolist()
    assert not ranking.scores[-100:].any() and ranking.scores[-101] > 0


def test_images_that_have_no_share_do_not_fade_as_the_others_are_picked() -> None:
    pool = random_pool(3000, seed=5)
    assert pool.committee is not None
    pool.committee[:, 100:] = [0, 0, 0, 1]
    objectives = (KCenterGreedy(), Balance(target={"0": 1, "1": 1, "2": 1}))
    ranking = Product(objectives).rank(pool, 300, batch_size=20, seed=0)
    assert ranking.indices.tolist() == every_image_for_every_pick(pool, objectives, [1, 1], 300).tolist()


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 600), st.integers(0, 10**6), st.sets(st.sampled_from(range(3)), min_size=1), st.data())
def test_any_objectives_of_any_pool(size: int, seed: int, chosen: set[int], data: st.DataObject) -> None:
    pool = random_pool(
        size, seed, labeled=data.draw(st.integers(1, 30)), clusters=data.draw(st.integers(1, 5))
    )
    objectives = [OBJECTIVES[i] for i in sorted(chosen)]
    ranking = Product(tuple(objectives)).rank(pool, 60, batch_size=20, seed=0)
    expected = every_image_for_every_pick(pool, objectives, [1.0] * len(objectives), min(60, size))
    assert ranking.indices.tolist() == expected.tolist()


def test_one_objective_is_its_own_ranking() -> None:
    pool = random_pool(2000, seed=2)
    for alone in (Margin(), KCenterGreedy(), Balance()):
        product = Product((alone,)).rank(pool, 200, batch_size=10, seed=0)
        own = alone.rank(pool, 200, batch_size=10, seed=0)
        assert product.indices.tolist() == own.indices.tolist()
        np.testing.assert_allclose(product.scores, own.scores)


def test_nothing_labeled_leaves_the_first_pick_to_the_other_objectives() -> None:
    pool = line([0.1, 0.3, 0.5, 0.45], [0, 1, 5, 5], labeled=[])
    ranking = Product((LeastConfidence(), KCenterGreedy())).rank(pool, 3, batch_size=1, seed=0)
    assert ranking.indices.tolist() == [2, 1, 0]
    assert ranking.reasons[0].endswith("nothing labeled yet to be unlike")


def test_many_equal_images() -> None:
    """More than a front holds tie for each pick, and whatever the order of the pool, the same come first."""
    rng = np.random.default_rng(0)
    pool = Pool(
        20_000,
        committee=np.full((1, 20_000, 2), 0.5),
        embeddings=rng.normal(size=(20_000, 4)),
        labeled_targets=np.empty((0, 2)),
        groups={"weather": np.array(["rain", "sun"])[rng.integers(2, size=20_000)]},
    )
    assert pool.embeddings is not None
    product = Product((Margin(), Balance("weather")))
    ranking = product.rank(pool, 50, batch_size=5, seed=0)
    order = rng.permutation(20_000)
    shuffled = product.rank(pool.take(order), 50, batch_size=5, seed=0)
    assert order[shuffled.indices].tolist() == ranking.indices.tolist()
    lead = np.cumsum(np.where(pool.group("weather")[ranking.indices] == "sun", 1, -1))
    assert np.abs(lead).max() == 1


class HalvedWithEachPick(ScoredStrategy):
    """A third party's objective, which the picks change in a way of its own."""

    name = "halved"
    needs = frozenset({Need.PROBABILITIES})

    def scores(self, pool: Pool) -> Scores:
        return pool.probabilities[:, 0]

    def reason(self, pool: Pool, index: int) -> str:
        return "as it wants"

    def factor(self, pool: Pool, size: int) -> Factor:
        return Halved(self.scores(pool))


class Halved(Factor):
    def __init__(self, scores: Scores) -> None:
        self.scores = scores.copy()

    def values(self, indices: Indices | slice) -> Scores:
        return self.scores[indices]

    def reason(self, index: int) -> str:
        return f"now worth {self.scores[index]:.2f}"

    def add(self, index: int) -> None:
        self.scores[: index + 1] /= 2


def test_an_objective_of_a_third_party() -> None:
    p = np.array([0.9, 0.8, 0.7, 0.3])
    pool = Pool(4, committee=np.stack([p, 1 - p], axis=1)[None])
    assert isinstance(HalvedWithEachPick(), Objective)
    ranking: Ranking = Product((HalvedWithEachPick(),)).rank(pool, 4, batch_size=1, seed=0)
    assert ranking.indices.tolist() == [0, 1, 2, 3]
    assert ranking.reasons == ("now worth 0.90", "now worth 0.80", "now worth 0.70", "now worth 0.30")


def test_a_pick_is_never_repeated_after_one_was_given() -> None:
    pool = random_pool(50, seed=3)
    greedy = Greedy(pool, [KCenterGreedy().factor(pool, 50)], [1.0])
    greedy.take(7)
    picks = greedy.picks(49)
    assert sorted(picks.indices.tolist()) == [i for i in range(50) if i != 7]


class Negative(ScoredStrategy):
    name = "negative"
    needs = frozenset[Need]()

    def scores(self, pool: Pool) -> Scores:
        return np.arange(pool.size) - 2.0

    def reason(self, pool: Pool, index: int) -> str:
        return "none"


def test_products_that_are_none() -> None:
    with pytest.raises(ValueError, match="a product is of one or more"):
        Product(())
    with pytest.raises(ValueError, match="2 numbers for 1 objectives"):
        Product((Margin(),), (1, 2))
    with pytest.raises(ValueError, match="a number above 0"):
        Product((Margin(), Entropy()), (1, 0))
    with pytest.raises(ValueError, match="negative gave scores below 0"):
        Product((Negative(),)).rank(Pool(3), 1, batch_size=1, seed=0)


def test_needs_are_of_all() -> None:
    assert Product((Margin(), KCenterGreedy(), Balance("weather"))).needs == {
        Need.PROBABILITIES,
        Need.EMBEDDINGS,
        Need.LABELED_EMBEDDINGS,
        Need.GROUPS,
    }
