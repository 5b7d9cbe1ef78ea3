import numpy as np
import pytest

from strategies import (
    Entropy,
    FilterThenDiversify,
    KCenterGreedy,
    LeastConfidence,
    Margin,
    Mixture,
    Need,
    Pool,
    Random,
    TypiClust,
)


def line(uncertainty: list[float], places: list[float], labeled: list[float] | None = None) -> Pool:
    """Images on a line, whose least confidence is given."""
    u = np.array(uncertainty)
    return Pool(
        len(u),
        committee=np.stack([1 - u, u], axis=1)[None],
        embeddings=np.array(places)[:, None],
        labeled_embeddings=np.array(labeled or []).reshape(-1, 1),
    )


def test_the_diverse_ones_of_the_most_uncertain() -> None:
    pool = line([0.50, 0.49, 0.48, 0.47, 0.10], [0, 0.1, 5, 5.1, 99], labeled=[-1])
    ranking = FilterThenDiversify(LeastConfidence(), KCenterGreedy(), keep=2).rank(
        pool, 2, batch_size=2, seed=0
    )
    # Four make the shortlist, so not the far one. 5.1 is farthest from the labeled, then 0.1 from both.
    assert ranking.indices.tolist() == [3, 1]
    np.testing.assert_allclose(ranking.scores, [0.47, 0.49], atol=1e-6)
    assert ranking.reasons[0] == (
        "most likely class 0, with only 53%; unlike all that is labeled or chosen before it (distance 6.1)"
    )


def test_the_next_batch_avoids_the_batch_before() -> None:
    """Batches of one from shortlists of two: [0, 1], then [0, 2], then [2, 3]."""
    pool = line([0.50, 0.49, 0.48, 0.47], [1, 2, 1.9, 8], labeled=[0])
    ranking = FilterThenDiversify(LeastConfidence(), KCenterGreedy(), keep=2).rank(
        pool, 4, batch_size=1, seed=0
    )
    assert ranking.indices.tolist() == [1, 0, 3, 2]


def test_keep_one_is_the_filter_batch_by_batch() -> None:
    rng = np.random.default_rng(0)
    pool = line((rng.random(50) / 2).tolist(), rng.normal(size=50).tolist())
    filtered = Margin().rank(pool, 50, batch_size=5, seed=0).indices
    both = FilterThenDiversify(Margin(), KCenterGreedy(), keep=1).rank(pool, 50, batch_size=5, seed=0).indices
    assert np.sort(both.reshape(10, 5)).tolist() == np.sort(filtered.reshape(10, 5)).tolist()


def test_needs_are_of_both() -> None:
    assert FilterThenDiversify(Entropy(), KCenterGreedy()).needs == {
        Need.PROBABILITIES,
        Need.EMBEDDINGS,
        Need.LABELED_EMBEDDINGS,
    }
    assert Mixture((Random(), Margin()), (1, 1)).needs == {Need.PROBABILITIES}


def test_a_diversifier_without_embeddings() -> None:
    pool = Pool(9, committee=np.full((1, 9, 2), 0.5))
    ranking = FilterThenDiversify(Margin(), Random(), keep=2).rank(pool, 9, batch_size=2, seed=0)
    assert sorted(ranking.indices.tolist()) == list(range(9))


def test_mixture_keeps_to_its_shares_all_along() -> None:
    pool = line([i / 100 for i in range(40)], [float(i % 7) for i in range(40)])
    mixture = Mixture((LeastConfidence(), Random()), (3, 1))
    ranking = mixture.rank(pool, 16, batch_size=4, seed=0)
    by_random = np.array([reason == "chosen at random" for reason in ranking.reasons])
    assert by_random.reshape(4, 4).sum(axis=1).tolist() == [1, 1, 1, 1]
    rest = ranking.indices[~by_random].tolist()
    assert rest == sorted(rest, reverse=True)


def test_mixture_never_repeats_and_can_take_all() -> None:
    pool = line([0.1, 0.2, 0.3], [1, 2, 3])
    ranking = Mixture((Margin(), LeastConfidence(), TypiClust()), (1, 1, 1)).rank(
        pool, 9, batch_size=2, seed=0
    )
    assert sorted(ranking.indices.tolist()) == [0, 1, 2]
    assert ranking.indices[:2].tolist() == [2, 1]  # both want the last image; the second takes its next


@pytest.mark.parametrize(
    ("strategies", "shares", "message"),
    [
        ((), (), "one or more"),
        ((Random(),), (1, 2), "2 numbers for 1 strategies"),
        ((Random(),), (0,), "a number above 0"),
        ((Random(),), (float("nan"),), "a number above 0"),
    ],
)
def test_mixtures_that_are_none(strategies: tuple, shares: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mixture(strategies, shares)


def test_keep_nothing() -> None:
    with pytest.raises(ValueError, match="keep is 0"):
        FilterThenDiversify(Margin(), KCenterGreedy(), keep=0)
