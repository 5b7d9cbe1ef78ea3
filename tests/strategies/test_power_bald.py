import numpy as np
import pytest

from strategies import Bald, InvalidSpec, Margin, Pool, PowerAcquisition, PowerBald, strategy


def margins(*margins: float) -> Pool:
    """Images of different content with these scores by margin."""
    p = 1 - np.array(margins) / 2
    return Pool(len(margins), committee=np.stack([p, 1 - p], axis=1)[None])


@pytest.mark.parametrize("coldness", [0.5, 1, 3])
def test_the_first_is_drawn_in_proportion_to_the_power_of_its_score(coldness: float) -> None:
    scores = np.array([1, 0.6, 0.2])
    pool, power = margins(*scores), PowerAcquisition(Margin(), coldness)
    firsts = [power.rank(pool, 1, batch_size=1, seed=seed).indices[0] for seed in range(3000)]
    expected = scores**coldness / (scores**coldness).sum()
    np.testing.assert_allclose(np.bincount(firsts, minlength=3) / 3000, expected, atol=0.03)


def test_the_next_is_drawn_in_proportion_among_those_left() -> None:
    pool, power = margins(1, 0.6, 0.2), PowerAcquisition(Margin())
    pairs = [tuple(power.rank(pool, 2, batch_size=1, seed=seed).indices) for seed in range(3000)]
    after_the_first = [second for first, second in pairs if first == 0]
    assert np.mean(np.array(after_the_first) == 1) == pytest.approx(0.6 / 0.8, abs=0.03)


def test_images_that_score_nothing_come_last_in_random_order() -> None:
    pool, power = margins(0, 0.01, 0, 1, 0), PowerAcquisition(Margin())
    rankings = [power.rank(pool, 5, batch_size=5, seed=seed) for seed in range(20)]
    assert all(set(ranking.indices[:2]) == {1, 3} for ranking in rankings)
    assert len({tuple(ranking.indices[2:]) for ranking in rankings}) > 1


def test_very_cold_is_the_order_of_the_scores() -> None:
    pool = margins(0.3, 0.9, 0.5, 0.7)
    ranking = PowerAcquisition(Margin(), 1e6).rank(pool, 4, batch_size=2, seed=0)
    assert ranking.indices.tolist() == [1, 3, 2, 0]
    np.testing.assert_allclose(ranking.scores, [0.9, 0.7, 0.5, 0.3], atol=1e-7)


def test_power_bald_is_that_of_bald() -> None:
    committee = np.random.default_rng(0).dirichlet(np.ones(3), size=(4, 30))
    pool = Pool(30, committee=committee, classes=("shirt", "coat", "bag"))
    ranking = PowerBald(2).rank(pool, 30, batch_size=5, seed=3)
    assert (
        ranking.indices.tolist()
        == PowerAcquisition(Bald(), 2).rank(pool, 30, batch_size=5, seed=3).indices.tolist()
    )
    np.testing.assert_array_equal(ranking.scores, Bald().scores(pool)[ranking.indices])
    assert ranking.reasons[0].startswith("drawn by its score: committee of 4 puts ")
    assert ranking.indices.tolist() != PowerBald(2).rank(pool, 30, batch_size=5, seed=4).indices.tolist()


def test_specs() -> None:
    assert strategy("{power_bald: 2}") == PowerBald(2)
    assert strategy("{power_acquisition: {score: margin}}") == PowerAcquisition(Margin())
    with pytest.raises(InvalidSpec, match="coldness is -1"):
        strategy("{power_bald: -1}")
