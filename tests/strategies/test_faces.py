"""Strategies for faces in an open set, worked out by hand."""

import numpy as np
import pytest

from strategies import (
    MissingNeed,
    Novelty,
    Pool,
    UnknownClusters,
    Verification,
    VerificationThreshold,
    strategy,
)

# Four faces and two people. Against a threshold of 0.5: surely anna; hardly bob; hardly nobody; surely nobody.
SIMILARITIES = np.array([[0.9, 0.1], [0.2, 0.55], [0.4, -0.3], [-0.8, -0.7]])


def pool(similarities: np.ndarray = SIMILARITIES, features: np.ndarray | None = None) -> Pool:
    return Pool(
        len(similarities),
        features=features,
        verification=Verification(similarities, 0.5),
        classes=("anna", "bob"),
    )


def test_nearest_to_the_threshold_first() -> None:
    made = strategy("verification_threshold")
    ranking = made.rank(pool(), 4, batch_size=1, seed=0)
    assert ranking.indices.tolist() == [1, 2, 0, 3]
    np.testing.assert_allclose(ranking.scores, [0.975, 0.95, 0.8, 0.4], atol=1e-6)
    assert (
        ranking.reasons[0] == 'likest "bob", with a similarity of 0.55; from 0.50 on it is taken for the same'
    )


def test_least_similar_to_anybody_known_first() -> None:
    ranking = strategy("novelty").rank(pool(), 4, batch_size=1, seed=0)
    assert ranking.indices.tolist() == [3, 2, 1, 0]
    np.testing.assert_allclose(ranking.scores, [1.7, 0.6, 0.45, 0.1], atol=1e-6)
    assert ranking.reasons[0] == 'unlike all that are known; likest "bob", with a similarity of -0.70'


def test_where_nobody_is_known_all_is_alike_and_unknown() -> None:
    nobody = Pool(3, features=np.eye(3), verification=Verification(np.empty((3, 0)), 0.5))
    for made in (VerificationThreshold(), Novelty(), UnknownClusters()):
        ranking = made.rank(nobody, 3, batch_size=1, seed=0)
        assert len(set(ranking.scores.tolist())) == 1
        assert all("nobody is known yet" in reason for reason in ranking.reasons)


def angles(*degrees: float) -> np.ndarray:
    """Points on the unit circle; a cosine of 0.5 is 60 degrees."""
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


#                         known  a trio, its mean at 30        a pair      alone
FEATURES = angles(30, 0, 34, 56, 180, 190, 270)
OPEN = np.array([0.9, -0.1, -0.2, 0.1, 0.2, -0.4, 0.49])[:, None]


def test_clusters_of_unknown_faces_come_whole_and_the_largest_first() -> None:
    ranking = strategy("unknown_clusters").rank(pool(OPEN, 3 * FEATURES), 7, batch_size=2, seed=0)
    assert ranking.indices[:3].tolist() == [2, 3, 1]  # 34, 56 and 0 degrees are 4, 26 and 30 from their mean
    assert sorted(ranking.indices[3:5].tolist()) == [4, 5]
    assert ranking.indices[5:].tolist() == [6, 0]  # 0.01 and 0.4 from the threshold
    np.testing.assert_allclose(ranking.scores, [3, 3, 3, 2, 2, 0.995, 0.8], atol=1e-6)
    assert ranking.reasons[0] == "one of 3 that look alike and are nobody known"
    assert ranking.reasons[5].startswith('likest "anna", with a similarity of 0.49')


def test_every_two_faces_of_a_cluster_pass_the_threshold() -> None:
    # On average the last passes with the first two, by 0.507; with the first alone it does not, by 0.358.
    ranking = UnknownClusters().rank(pool(np.full((3, 1), -1.0), angles(0, 20, 69)), 3, batch_size=1, seed=0)
    assert sorted(ranking.indices[:2].tolist()) == [0, 1]
    assert ranking.scores.tolist() == [2, 2, 0.25]


def test_a_short_ranking_is_the_start_of_a_long_one() -> None:
    made = UnknownClusters()
    short, long = (made.rank(pool(OPEN, FEATURES), size, batch_size=1, seed=0) for size in (2, 7))
    assert short.indices.tolist() == long.indices[:2].tolist()
    assert short.reasons == long.reasons[:2]


def test_a_pool_of_more_unknown_faces_than_are_clustered() -> None:
    rng = np.random.default_rng(0)
    people = rng.normal(size=(4, 32))
    who = rng.permutation(np.repeat(np.arange(3), [2500, 1500, 1000]))
    strangers = people[who] + 0.2 * rng.normal(size=(5000, 32))
    known = people[3] + 0.2 * rng.normal(size=(1000, 32))
    large = pool(np.repeat([-0.5, 0.8], [5000, 1000])[:, None], np.concatenate([strangers, known]))
    ranking = UnknownClusters().rank(large, 6000, batch_size=10, seed=0)
    assert ranking.scores[[0, 2500, 4000]].tolist() == [2500, 1500, 1000]
    assert (np.diff(who[ranking.indices[:5000]]) >= 0).all()
    assert (ranking.indices[5000:] >= 5000).all()


def test_what_clusters_need() -> None:
    with pytest.raises(MissingNeed, match="needs features"):
        UnknownClusters().rank(pool(), 1, batch_size=1, seed=0)
