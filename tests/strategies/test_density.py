import numpy as np
import pytest

from strategies import Bald, Entropy, InformationDensity, Need, Pool, Representative
from strategies.density import mean_similarity


def test_mean_similarity_is_the_mean_cosine_to_all() -> None:
    embeddings = np.array([[2.0, 0], [0, 3], [1, 1], [0, 0]], dtype=np.float32)
    half = 2**-0.5
    expected = np.array([(1 + half) / 4, (1 + half) / 4, (2 * half + 1) / 4, 0])
    np.testing.assert_allclose(mean_similarity(embeddings), expected, atol=1e-7)


def test_the_opposite_of_the_pool_has_no_density() -> None:
    assert mean_similarity(np.array([[1, 0], [1, 0], [-1, 0]], dtype=np.float32))[2] == 0


@pytest.mark.parametrize(("beta", "first"), [(0, 0), (1, 1)])
def test_beta_weighs_density_against_uncertainty(beta: float, first: int) -> None:
    # The first image is more uncertain, the second like all the others.
    committee = np.array([[[0.5, 0.5], [0.4, 0.6], [1, 0], [1, 0]]])
    pool = Pool(4, committee=committee, embeddings=np.array([[0, 1], [1, 0], [1, 0], [1, 0]]))
    strategy = InformationDensity(beta=beta)
    np.testing.assert_allclose(
        strategy.scores(pool), Entropy().scores(pool) * np.array([0.25, 0.75, 0.75, 0.75]) ** beta, rtol=1e-6
    )
    assert strategy.rank(pool, 1, batch_size=1, seed=0).indices.tolist() == [first]


def test_needs_what_its_uncertainty_needs() -> None:
    assert InformationDensity(uncertainty=Bald()).needs == {Need.COMMITTEE, Need.EMBEDDINGS}


@pytest.mark.parametrize("beta", [-1, float("nan")])
def test_a_beta_that_is_none(beta: float) -> None:
    with pytest.raises(ValueError, match="beta is"):
        InformationDensity(beta=beta)


def test_representative_is_like_the_pool_and_unlike_the_labeled_set() -> None:
    """Centroids at 45° and at 0°: cosines to the first less cosines to the second."""
    pool = Pool(2, embeddings=np.array([[3, 0], [0, 1.0]]), labeled_embeddings=np.array([[2, 0.0]]))
    half = 2**-0.5
    np.testing.assert_allclose(Representative().scores(pool), [half - 1, half], atol=1e-7)


def test_representative_of_a_target_domain() -> None:
    pool = Pool(
        2,
        embeddings=np.array([[1, 0], [0, 1.0]]),
        labeled_embeddings=np.array([[0, 1.0]]),
        target_embeddings=np.array([[5, 0.0]]),
    )
    np.testing.assert_allclose(Representative().scores(pool), [1, -1])
    assert "domain to be served" in Representative().reason(pool, 0)


def test_representative_with_nothing_labeled() -> None:
    pool = Pool(3, embeddings=np.array([[1, 0], [1, 0], [0, 1.0]]), labeled_embeddings=np.empty((0, 2)))
    np.testing.assert_allclose(Representative().scores(pool), np.array([2, 2, 1]) / 5**0.5, atol=1e-7)


def test_representative_counts_what_it_chose_as_labeled() -> None:
    """Most of the pool points one way, some another: once the one is chosen, the other lacks."""
    embeddings = np.repeat(np.eye(2), [6, 3], axis=0)
    pool = Pool(9, embeddings=embeddings, labeled_embeddings=np.empty((0, 2)))
    first, second = Representative().rank(pool, 2, batch_size=1, seed=0).indices.tolist()
    assert first < 6 <= second
