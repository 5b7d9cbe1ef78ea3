"""What holds for every strategy, on pools made to be awkward: repeated images, ties, one class, hardly any images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies import Pool, Ranking, Strategy, Units, Validation, Verification, strategy, strategy_names

SPECS = [
    *(
        name
        for name in strategy_names()
        if name not in ("mixture", "power_acquisition", "product", "without_near_duplicates")
    ),
    "{power_acquisition: {score: margin, coldness: 4}}",
    "{information_density: {uncertainty: bald, beta: 0.5}}",
    "{filter_then_diversify: {filter: vote_entropy, diversify: typiclust, keep: 2}}",
    "{without_near_duplicates: margin}",
    "{without_near_duplicates: {strategy: k_means, distance: 1}}",
    "{clue: least_confidence}",
    "{prob_cover: {delta: 1.5}}",
    "{regions: {score: bald, reduction: top_k_mean, without_units: first}}",
    "{regions: {score: localisation_stability, reduction: mean}}",
    "{product: {objectives: [margin, object_diversity], strengths: [1, 2]}}",
    "{product: {objectives: [verification_threshold, novelty, k_center_greedy]}}",
    "{filter_then_diversify: {filter: unknown_clusters, keep: 2}}",
    "{mixture: {strategies: [margin, k_center_greedy], shares: [2, 1]}}",
    "{product: {objectives: [margin, k_center_greedy, balance], strengths: [1, 1, 0.5]}}",
    "{product: {objectives: [entropy, {balance: {over: weather, target: proportional}}]}}",
    "{balance: {over: weather, target: {rain: 3, sun: 1}}}",
    "{quotas: {strategy: k_center_greedy, over: weather, target: {rain: 3, sun: 1}}}",
]
by_spec = pytest.mark.parametrize("strategy", [strategy(spec) for spec in SPECS], ids=SPECS)


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    """Few different values, so that images often tie in some or all that is known of them."""
    size, classes = draw(st.integers(1, 25)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = draw(st.integers(1, 5))
    votes = rng.integers(1, 1 + values, size=(3, size, classes)).astype(float)
    multi_label = draw(st.booleans())
    embeddings = rng.integers(-values, 1 + values, size=(size, 3))
    labeled, validated, units = draw(st.integers(0, 4)), draw(st.integers(0, 4)), draw(st.integers(0, 9))
    unit_votes = rng.integers(1, 1 + values, size=(3, units, classes)).astype(float)
    return Pool(
        size,
        committee=_probabilities(votes, multi_label, values),
        embeddings=embeddings,
        labeled_embeddings=rng.integers(-values, 1 + values, size=(labeled, 3)),
        features=embeddings,
        labeled_targets=np.eye(classes)[rng.integers(classes, size=labeled)],
        validation=Validation(
            rng.integers(-values, 1 + values, size=(validated, 3)), rng.random(validated) < 0.5
        ),
        units=Units(
            Pool(
                units,
                committee=_probabilities(unit_votes, multi_label, values),
                embeddings=rng.integers(-values, 1 + values, size=(units, 2)),
                labeled_embeddings=rng.integers(-values, 1 + values, size=(labeled, 2)),
                localisation=rng.integers(1 + values, size=units) / values,
                multi_label=multi_label,
            ),
            rng.integers(size, size=units),
        ),
        localisation=rng.integers(1 + values, size=size) / values,
        verification=Verification(
            rng.integers(-values, 1 + values, size=(size, draw(st.integers(0, 3)))) / values,
            draw(st.sampled_from([-1.0, 0.0, 0.5, 1.0])),
        ),
        groups={"weather": np.array(["rain", "sun"])[embeddings[:, 0] % 2]},
        labeled_groups={"weather": np.array(["rain", "snow"])[rng.integers(2, size=labeled)]},
        multi_label=multi_label,
    )


def _probabilities(votes: np.ndarray, multi_label: bool, values: int) -> np.ndarray:
    return votes / (values if multi_label else votes.sum(axis=2, keepdims=True))


def contents(pool: Pool, ranking: Ranking) -> list[bytes]:
    picked = pool.take(ranking.indices)
    assert picked.committee is not None and picked.embeddings is not None
    return [picked.committee[:, i].tobytes() + picked.embeddings[i].tobytes() for i in range(len(ranking))]


@by_spec
@settings(deadline=None, max_examples=15)
@given(pool=pools(), size=st.integers(0, 30), batch_size=st.integers(1, 30))
def test_a_ranking_is_of_different_images_with_scores_and_reasons(
    strategy: Strategy, pool: Pool, size: int, batch_size: int
) -> None:
    ranking = strategy.rank(pool, size, batch_size=batch_size, seed=0)
    assert len(ranking.indices) == len(ranking.scores) == len(ranking.reasons) == min(size, pool.size)
    assert len(set(ranking.indices.tolist())) == len(ranking)
    assert set(ranking.indices.tolist()) <= set(range(pool.size))
    assert ranking.indices.dtype == np.int64 and ranking.scores.dtype == np.float64
    assert np.isfinite(ranking.scores).all()
    assert all(ranking.reasons)


@by_spec
@settings(deadline=None, max_examples=15)
@given(pool=pools(), batch_size=st.integers(1, 8), seed=st.integers(0, 99), data=st.data())
def test_the_order_of_the_pool_does_not_matter(
    strategy: Strategy, pool: Pool, batch_size: int, seed: int, data: st.DataObject
) -> None:
    shuffled = pool.take(np.array(data.draw(st.permutations(range(pool.size))), dtype=np.int64))
    one = strategy.rank(pool, pool.size, batch_size=batch_size, seed=seed)
    other = strategy.rank(shuffled, pool.size, batch_size=batch_size, seed=seed)
    assert contents(pool, one) == contents(shuffled, other)


@by_spec
def test_the_same_seed_gives_the_same_picks(strategy: Strategy) -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(300, 16))
    pool = Pool(
        300,
        committee=rng.dirichlet(np.ones(4), size=(5, 300)),
        embeddings=embeddings,
        labeled_embeddings=rng.normal(size=(10, 16)),
        features=embeddings,
        labeled_targets=np.eye(4)[rng.integers(4, size=10)],
        validation=Validation(rng.normal(size=(40, 16)), rng.random(40) < 0.5),
        units=Units(
            Pool(
                500,
                committee=rng.dirichlet(np.ones(4), size=(5, 500)),
                embeddings=rng.normal(size=(500, 8)),
                localisation=rng.random(500),
            ),
            rng.integers(300, size=500),
        ),
        localisation=rng.random(300),
        verification=Verification(rng.uniform(-1, 1, size=(300, 4)), 0.5),
        groups={"weather": np.array(["rain", "sun"])[rng.integers(2, size=300)]},
        labeled_groups={"weather": np.array(["rain", "snow"])[rng.integers(2, size=10)]},
    )
    one, other = (strategy.rank(pool, 60, batch_size=20, seed=7) for _ in range(2))
    assert one.indices.tolist() == other.indices.tolist()
    assert one.scores.tolist() == other.scores.tolist()
    assert one.reasons == other.reasons


@by_spec
def test_an_empty_pool(strategy: Strategy) -> None:
    empty = Pool(
        0,
        committee=np.empty((2, 0, 3)),
        embeddings=np.empty((0, 3)),
        labeled_embeddings=np.ones((2, 3)),
        features=np.empty((0, 3)),
        labeled_targets=np.eye(3)[:2],
        validation=Validation(np.ones((2, 3)), np.array([True, False])),
        units=Units(Pool(0, committee=np.empty((2, 0, 3))), np.empty(0, np.int64)),
        localisation=np.empty(0),
        verification=Verification(np.empty((0, 3)), 0.5),
        groups={"weather": np.empty(0, str)},
        labeled_groups={"weather": np.array(["rain", "sun"])},
    )
    assert len(strategy.rank(empty, 5, batch_size=2, seed=0)) == 0


@by_spec
def test_requests_that_cannot_be_met(strategy: Strategy) -> None:
    with pytest.raises(ValueError, match="size is -1"):
        strategy.rank(Pool(0), -1, batch_size=1, seed=0)
    with pytest.raises(ValueError, match="batch_size is 0"):
        strategy.rank(Pool(0), 1, batch_size=0, seed=0)


@by_spec
def test_a_pool_without_what_the_strategy_needs(strategy: Strategy) -> None:
    if not strategy.needs:
        assert len(strategy.rank(Pool(3), 3, batch_size=1, seed=0)) == 3
        return
    with pytest.raises(ValueError, match="This strategy needs"):
        strategy.rank(Pool(3), 3, batch_size=1, seed=0)


def test_another_seed_draws_other_images() -> None:
    draws = {
        tuple(strategy("random").rank(Pool(50), 10, batch_size=5, seed=s).indices.tolist()) for s in range(5)
    }
    assert len(draws) == 5
