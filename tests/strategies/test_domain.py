"""Discriminators small enough to be worked out by hand."""

from math import exp, log

import numpy as np
import pytest

from strategies import ActiveAdversarialDomainAdaptation, Discriminative, Entropy, Pool, strategy

from .domain_shift import accuracy_under_shift

# Labeled at -1 and target at 1: as in test_transfer, the log odds of the target are 1.29254 times the place.
WEIGHT = 1.29254
LABELED, TARGET = np.array([[-1, 0]]), np.array([[1, 0]])


def pool(places: list[float], *, labeled: np.ndarray = LABELED, target: np.ndarray | None = TARGET) -> Pool:
    p = np.linspace(0.5, 0.9, len(places))
    return Pool(
        len(places),
        committee=np.stack([p, 1 - p], axis=1)[None],
        embeddings=np.array([[x, 0] for x in places]),
        labeled_embeddings=labeled,
        target_embeddings=target,
    )


def test_aada_is_entropy_times_how_much_likelier_the_target_domain_is() -> None:
    images = pool([-1, 0, 1])
    weights = np.exp(WEIGHT * np.array([-1, 0, 1]))  # (1 − D) / D of a logistic D is e to its log odds
    scores = ActiveAdversarialDomainAdaptation().scores(images)
    np.testing.assert_allclose(scores, Entropy().scores(images) * weights, rtol=1e-3)
    np.testing.assert_allclose(scores[0], log(2) * exp(-WEIGHT), rtol=1e-3)
    assert ActiveAdversarialDomainAdaptation().reason(images, 2) == (
        "undecided: class 0 (90%), class 1 (10%); 3.6 times as likely in the target domain as labeled"
    )


def test_far_out_entropy_decides() -> None:
    images = pool([-1000, 50, 60, 1000])
    weights = [0.1, 10, 10, 10]
    np.testing.assert_allclose(
        ActiveAdversarialDomainAdaptation().scores(images), Entropy().scores(images) * weights
    )


def test_a_domain_is_not_likelier_for_its_many_images() -> None:
    both = np.array([[-1, 0], [1, 0]])
    images = pool([-1, 0, 1], labeled=both, target=np.repeat(both, 100, axis=0))
    aada = ActiveAdversarialDomainAdaptation()
    np.testing.assert_allclose(aada.scores(images), Entropy().scores(images), rtol=1e-5)


def test_discriminative_takes_what_is_least_like_the_labeled() -> None:
    ranking = Discriminative().rank(pool([-1, 0.5, 1]), 3, batch_size=1, seed=0)
    assert ranking.indices[0] == 2
    assert ranking.scores[0] == pytest.approx(1 / (1 + exp(-WEIGHT)), abs=1e-4)
    assert ranking.reasons[0] == "unlike the labeled images: told from them with 78%"


def test_what_is_chosen_counts_as_labeled() -> None:
    # Labeled in one corner, unlabeled groups in two others: by turns, not one group first.
    rng = np.random.default_rng(0)
    corners = np.array([[0, 0], [8, 0], [0, 7]])
    groups = [corner + rng.normal(scale=0.2, size=(30, 2)) for corner in corners]
    images = Pool(60, embeddings=np.concatenate(groups[1:]), labeled_embeddings=groups[0])
    chosen = Discriminative().rank(images, 10, batch_size=10, seed=0).indices // 30
    assert 3 <= chosen.sum() <= 7


def test_without_target_embeddings_the_pool_is_the_target() -> None:
    alone = pool([-1, 0, 1], target=None)
    given = pool([-1, 0, 1], target=np.array([[-1, 0], [0, 0], [1, 0]]))
    aada = ActiveAdversarialDomainAdaptation()
    np.testing.assert_allclose(aada.scores(alone), aada.scores(given), rtol=1e-6)


@pytest.mark.parametrize(
    "images",
    [pool([-1, 0, 1], labeled=np.empty((0, 2))), pool([-1, 0, 1], target=np.empty((0, 2)))],
    ids=["nothing labeled", "no image of the target"],
)
def test_where_there_are_not_two_domains_all_images_are_alike(images: Pool) -> None:
    aada = ActiveAdversarialDomainAdaptation()
    np.testing.assert_array_equal(aada.scores(images), Entropy().scores(images))
    assert "1.0 times" in aada.reason(images, 0)
    assert Discriminative().rank(images, 1, batch_size=1, seed=0).scores.tolist() == [0.5]


def test_from_an_empty_labeled_set_the_first_pick_is_what_the_next_must_differ_from() -> None:
    images = pool([-1, -1.1, 5, 5.1], labeled=np.empty((0, 2)), target=None)
    first, second = Discriminative().rank(images, 2, batch_size=2, seed=0).indices
    assert first // 2 != second // 2


def test_a_sample_stands_for_many_images() -> None:
    rng = np.random.default_rng(0)
    size = 12_000  # more than a sample
    embeddings = rng.normal(size=(size, 2))
    images = Pool(size, embeddings=embeddings, labeled_embeddings=rng.normal(size=(size, 2)) - [3, 0])
    shuffle = rng.permutation(size)
    chosen = Discriminative().rank(images, 5, batch_size=1, seed=0)
    again = Discriminative().rank(images.take(shuffle), 5, batch_size=1, seed=0)
    assert shuffle[again.indices].tolist() == chosen.indices.tolist()
    assert (embeddings[chosen.indices, 0] > 1.5).all()


@pytest.mark.parametrize("name", ["aada", "discriminative"])
def test_adapts_to_the_target_domain_with_fewer_labels_than_random(name: str) -> None:
    random = accuracy_under_shift(strategy("random"))
    assert accuracy_under_shift(strategy(name)) > random + 0.1
