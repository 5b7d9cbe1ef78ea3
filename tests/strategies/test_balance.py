import numpy as np
import pytest

from strategies import Balance, KCenterGreedy, Margin, Need, Pool, Product, Quotas, Random, strategy
from strategies.balance import Target


def weather_pool(weather: list[str], labeled: list[str], uncertainty: list[float] | None = None) -> Pool:
    u = np.linspace(0.1, 0.4, len(weather)) if uncertainty is None else np.array(uncertainty)
    return Pool(
        len(weather),
        committee=np.stack([1 - u, u], axis=1)[None],
        groups={"weather": np.array(weather)},
        labeled_groups={"weather": np.array(labeled)},
        labeled_targets=np.tile([0.5, 0.5], (len(labeled), 1)),
    )


def class_pool(probabilities: list[list[float]], labeled: list[int]) -> Pool:
    p = np.array(probabilities)
    return Pool(
        len(p),
        committee=p[None],
        labeled_targets=np.eye(p.shape[1])[labeled],
        classes=("cat", "dog", "eel")[: p.shape[1]],
    )


def picked(pool: Pool, target: Target, size: int) -> list[str]:
    ranking = Quotas(Random(), "weather", target).rank(pool, size, batch_size=3, seed=0)
    values: list[str] = pool.group("weather")[ranking.indices].tolist()
    return values


def test_quotas_fill_up_what_is_furthest_below() -> None:
    pool = weather_pool(["rain"] * 5 + ["sun"] * 5 + ["snow"] * 5, ["rain"] * 4 + ["sun"])
    # 4, 0, 1 labeled: snow and sun catch up, then all in turns.
    assert picked(pool, "uniform", 10) == ["snow", *["snow", "sun"] * 3, "rain", "snow", "sun"]


def test_every_prefix_is_as_close_to_its_shares_as_whole_images_allow() -> None:
    pool = weather_pool(["rain"] * 50 + ["sun"] * 50 + ["snow"] * 50, [])
    shares = {"rain": 0.5, "sun": 0.3, "snow": 0.2}
    values = np.array(picked(pool, shares, 60))
    for name, share in shares.items():
        counts = np.cumsum(values == name)
        assert np.abs(counts - share * np.arange(1, 61)).max() < 1


def test_proportional_to_the_pool() -> None:
    pool = weather_pool(["rain"] * 75 + ["sun"] * 25, [])
    values = picked(pool, "proportional", 20)
    assert (values.count("rain"), values.count("sun")) == (15, 5)


def test_a_group_that_runs_out_leaves_its_share_to_the_others() -> None:
    pool = weather_pool(["rain"] * 2 + ["sun"] * 20 + ["snow"] * 20, [])
    values = picked(pool, {"rain": 0.5, "sun": 0.25, "snow": 0.25}, 22)
    assert (values.count("rain"), values.count("sun"), values.count("snow")) == (2, 10, 10)


def test_what_has_no_share_comes_last() -> None:
    pool = weather_pool(["rain", "sun", "rain", "sun"], ["snow"])
    assert picked(pool, {"sun": 1}, 4) == ["sun", "sun", "rain", "rain"]


def test_within_a_group_the_strategy_ranks() -> None:
    pool = weather_pool(["rain", "sun", "rain", "sun"], [], [0.1, 0.2, 0.3, 0.4])
    ranking = Quotas(Margin(), "weather").rank(pool, 4, batch_size=2, seed=0)
    assert ranking.indices.tolist() == [2, 3, 0, 1]
    np.testing.assert_allclose(ranking.scores, [0.6, 0.8, 0.2, 0.4], rtol=1e-6)
    assert ranking.reasons[0] == ("between class 0 (70%) and class 1 (30%); for the quota of weather rain")


def test_quotas_of_predicted_classes_are_the_default() -> None:
    """By the true classes of what is labeled: two cats."""
    pool = class_pool([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8], [0.1, 0.9]], [0, 0])
    ranking = Quotas().rank(pool, 5, batch_size=5, seed=0)
    assert ranking.indices.tolist() == [2, 3, 1, 4, 0]
    assert ranking.reasons[0].endswith('for the quota of "dog"')


def test_a_rare_group_is_ranked_by_itself() -> None:
    """k-center over the whole pool would spend its picks on the many."""
    rng = np.random.default_rng(0)
    pool = Pool(
        1000,
        embeddings=rng.normal(size=(1000, 2)),
        labeled_embeddings=np.zeros((1, 2)),
        groups={"weather": np.array(["fog"] * 10 + ["sun"] * 990)},
        labeled_groups={"weather": np.array(["sun"])},
    )
    ranking = Quotas(KCenterGreedy(), "weather").rank(pool, 10, batch_size=10, seed=0)
    fog = ranking.indices[ranking.indices < 10]
    assert len(fog) == 6  # of 11, with the one that is labeled
    own = KCenterGreedy().rank(pool.take(np.arange(10)), 6, batch_size=6, seed=0)
    assert fog.tolist() == own.indices.tolist()


def test_balance_is_worth_less_the_more_there_is() -> None:
    pool = weather_pool(["rain", "sun", "sun", "rain"], ["rain", "rain", "rain", "sun"])
    ranking = Balance("weather").rank(pool, 4, batch_size=1, seed=0)
    # 1 / (1 + 3) for rain, 1 / (1 + 1) for sun, then 1 / (1 + 2).
    assert pool.group("weather")[ranking.indices].tolist() == ["sun", "sun", "rain", "rain"]
    np.testing.assert_allclose(ranking.scores, [1 / 2, 1 / 3, 1 / 4, 1 / 5])
    assert ranking.reasons[0] == "weather sun has 25% of what is labeled or chosen, and 50% is wanted"


def test_on_target_all_groups_are_worth_the_same() -> None:
    target = {"rain": 0.75, "sun": 0.25}
    pool = weather_pool(["rain", "sun"], ["rain"] * 3 + ["sun"])
    worth = Balance("weather", target).factor(pool, 1).values(slice(None))
    # Two groups and two pseudo-images, three quarters of them rain: 1.5 / (1.5 + 3), 0.5 / (0.5 + 1).
    np.testing.assert_allclose(worth, [1 / 3, 1 / 3])


def test_balance_of_classes_is_by_their_probabilities() -> None:
    pool = class_pool([[0.5, 0.5, 0], [0, 0.5, 0.5], [1, 0, 0]], [0, 0, 1])
    factor = Balance().factor(pool, 3)
    np.testing.assert_allclose(factor.values(slice(None)), [5 / 12, 3 / 4, 1 / 3])
    factor.add(1)  # half a dog, half an eel
    np.testing.assert_allclose(factor.values(slice(None)), [1 / 6 + 1 / 5, 1 / 5 + 1 / 3, 1 / 3])
    assert factor.reason(2) == '"cat" has 50% of what is labeled or chosen, and 33% is wanted'


def test_nothing_labeled() -> None:
    pool = weather_pool(["rain", "sun"], [])
    ranking = Balance("weather").rank(pool, 2, batch_size=1, seed=0)
    assert ranking.scores.tolist() == [1, 1]
    assert ranking.reasons[0].endswith("has nothing labeled, and 50% is wanted")


def test_balance_in_a_product_evens_out_the_classes() -> None:
    rng = np.random.default_rng(1)
    truth = rng.choice(3, p=[0.9, 0.08, 0.02], size=3000)
    p = 0.7 * np.eye(3)[truth] + 0.3 * rng.dirichlet(np.ones(3), size=3000)
    pool = Pool(
        3000,
        committee=p[None],
        embeddings=rng.normal(size=(3000, 4)),
        labeled_embeddings=rng.normal(size=(30, 4)),
        labeled_targets=np.eye(3)[rng.choice(3, p=[0.9, 0.08, 0.02], size=30)],
    )
    plain = Product((Margin(), KCenterGreedy())).rank(pool, 60, batch_size=20, seed=0)
    even = Product((Margin(), KCenterGreedy(), Balance())).rank(pool, 60, batch_size=20, seed=0)
    assert np.bincount(truth[plain.indices], minlength=3).min() < 5
    assert np.bincount(truth[even.indices], minlength=3).min() > 12


def test_needs_are_what_it_is_over() -> None:
    assert Balance("weather").needs == {Need.GROUPS}
    assert Balance().needs == {Need.PROBABILITIES, Need.LABELED_TARGETS}
    assert Quotas(KCenterGreedy(), "hour").needs == {Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS, Need.GROUPS}


def test_a_field_that_is_not_there() -> None:
    pool = weather_pool(["rain"], ["sun"])
    for asked in (Quotas(over="hour"), Balance("hour")):
        with pytest.raises(ValueError, match=r"needs the metadata field 'hour'.*There are: weather"):
            asked.rank(pool, 1, batch_size=1, seed=0)


def test_a_field_that_the_labeled_set_lacks() -> None:
    pool = Pool(1, groups={"hour": np.array(["1"])}, labeled_targets=np.ones((4, 1)))
    with pytest.raises(ValueError, match=r"'hour' of the labeled set.*labeled_groups="):
        Balance("hour").rank(pool, 1, batch_size=1, seed=0)


def test_a_class_that_is_not_there() -> None:
    pool = class_pool([[0.5, 0.5]], [0])
    with pytest.raises(ValueError, match=r"names 'cow', which is no class there is\. There are: cat, dog"):
        Quotas(target={"cat": 1, "cow": 1}).rank(pool, 1, batch_size=1, seed=0)


def test_values_may_have_run_out_but_not_all() -> None:
    pool = weather_pool(["rain", "sun"], [])
    assert picked(pool, {"fog": 2, "sun": 1}, 2) == ["sun", "rain"]
    with pytest.raises(
        ValueError, match=r"'Rain', 'Sun', which is no value of weather there is\. There are: rain"
    ):
        picked(pool, {"Rain": 2, "Sun": 1}, 2)


@pytest.mark.parametrize("target", [{}, {"rain": -1}, {"rain": float("nan")}, {"rain": 0}, "unifrom"])
def test_targets_that_are_none(target: Target) -> None:
    for made in (Balance, Quotas):
        with pytest.raises(ValueError, match="target is"):
            made(over="weather", target=target)


def test_from_a_spec() -> None:
    assert strategy("{quotas: {strategy: margin, over: weather, target: {rain: 2, sun: 1}}}") == Quotas(
        Margin(), "weather", {"rain": 2, "sun": 1}
    )
    assert strategy("{product: {objectives: [margin, {balance: weather}], strengths: [1, 0.5]}}") == Product(
        (Margin(), Balance("weather")), (1, 0.5)
    )
