"""Gradients against those that autograd finds, and the draws against the gradients made in full."""

from math import sqrt

import numpy as np
import pytest
import torch

from strategies import Badge, ExpectedGradientLength, Pool
from strategies.gradients import _Gradients

NAMES = ("shirt", "coat", "bag")


def pool(size: int, *, multi_label: bool = False, seed: int = 0) -> Pool:
    """What a linear layer says of random features."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(size, 6)).astype(np.float32)
    logits = features @ rng.normal(size=(6, 3))
    odds = np.exp(logits)
    p = odds / (1 + odds) if multi_label else odds / odds.sum(axis=1, keepdims=True)
    return Pool(size, committee=p[None], features=features, multi_label=multi_label, classes=NAMES)


def full_gradients(pool: Pool, labels: np.ndarray) -> np.ndarray:
    """(size, classes × (features + 1)) gradients of the cross-entropy in the last layer's weights and bias."""
    p = torch.from_numpy(pool.probabilities)
    logits = torch.logit(p) if pool.multi_label else torch.log(p)
    features = torch.cat([torch.from_numpy(pool.features).double(), torch.ones(pool.size, 1)], dim=1)
    loss = torch.nn.BCEWithLogitsLoss if pool.multi_label else torch.nn.CrossEntropyLoss
    rows = []
    for i in range(pool.size):
        weights = torch.zeros(3, 7, dtype=torch.float64, requires_grad=True)
        out = logits[i] + weights @ features[i]
        loss(reduction="sum")(out, torch.tensor(labels[i])).backward()
        assert weights.grad is not None
        rows.append(weights.grad.flatten().numpy())
    return np.array(rows)


def test_expected_gradient_length_by_hand() -> None:
    images = Pool(
        2, committee=[[[0.5, 0.5, 0], [1, 0, 0]]], features=[[2, 2], [2, 2]], classes=NAMES
    )  # features with the bias: (2, 2, 1), of length 3
    scores = ExpectedGradientLength().scores(images)
    np.testing.assert_allclose(scores, [3 * sqrt(0.5), 0], atol=1e-12)
    assert ExpectedGradientLength().reason(images, 0) == (
        'its label would change the model much, whichever it is: between "shirt" (50%) and "coat" (50%)'
    )


def test_expected_gradient_length_is_that_of_the_gradients() -> None:
    images = pool(5)
    lengths = [np.linalg.norm(full_gradients(images, np.full(5, label)), axis=1) for label in range(3)]
    expected = (images.probabilities.T * lengths).sum(axis=0)
    np.testing.assert_allclose(ExpectedGradientLength().scores(images), expected, rtol=1e-6)


def test_expected_gradient_length_of_several_labels_is_the_mean_over_them() -> None:
    images = pool(5, multi_label=True)
    p = images.probabilities
    yes, no = (
        np.abs(full_gradients(images, np.full((5, 3), label)).reshape(5, 3, 7)) for label in (1.0, 0.0)
    )
    lengths = p * np.linalg.norm(yes, axis=2) + (1 - p) * np.linalg.norm(no, axis=2)
    np.testing.assert_allclose(ExpectedGradientLength().scores(images), lengths.mean(axis=1), rtol=1e-6)


def test_near_certain_images_keep_their_gradient() -> None:
    p = 2**-20
    images = Pool(1, committee=[[[1 - p, p]]], features=[[0]])
    expected = (1 - p) * sqrt(2) * p + p * sqrt(2) * (1 - p)
    np.testing.assert_allclose(ExpectedGradientLength().scores(images), [expected], rtol=1e-9)


@pytest.mark.parametrize("multi_label", [False, True])
def test_distances_between_gradients_that_are_never_made(multi_label: bool) -> None:
    images = pool(20, multi_label=multi_label)
    p = images.probabilities
    labels = (p >= 0.5).astype(float) if multi_label else p.argmax(axis=1)
    full = full_gradients(images, labels)
    gradients = _Gradients(images)
    everything = np.arange(20)
    np.testing.assert_allclose(gradients.squared_lengths, (full * full).sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(
        gradients.squared_distances(everything, everything[:7]),
        ((full[:, None] - full[None, :7]) ** 2).sum(axis=2),
        rtol=1e-6,
        atol=1e-12,
    )


def test_badge_starts_with_the_longest_gradient_and_draws_by_squared_distance() -> None:
    images = pool(6)
    full = full_gradients(images, images.probabilities.argmax(axis=1))
    longest = int((full * full).sum(axis=1).argmax())
    squares = ((full - full[longest]) ** 2).sum(axis=1)
    rankings = [Badge().rank(images, 3, batch_size=1, seed=seed) for seed in range(1000)]
    assert {int(ranking.indices[0]) for ranking in rankings} == {longest}
    second = np.bincount([ranking.indices[1] for ranking in rankings], minlength=6) / 1000
    np.testing.assert_allclose(second, squares / squares.sum(), atol=0.04)
    first, next_, last = rankings[0].indices
    nearest = min(np.linalg.norm(full[last] - full[i]) for i in (first, next_))
    np.testing.assert_allclose(
        rankings[0].scores, [np.linalg.norm(full[first]), np.linalg.norm(full[next_] - full[first]), nearest]
    )


def test_badge_leaves_repeated_images_to_the_end() -> None:
    once = pool(10)
    twice = once.take(np.repeat(np.arange(10), 2))
    ranking = Badge().rank(twice, 20, batch_size=5, seed=0)
    assert len(set(ranking.indices[:10] // 2)) == 10
    assert (ranking.scores[:10] > 0).all() and (ranking.scores[10:] == 0).all()
    assert ranking.reasons[0].startswith('would change the model most: between "')
    assert ranking.reasons[1].endswith("; would change the model otherwise than all chosen before it")
    assert ranking.reasons[10].endswith("; would change the model as an image chosen before it does")


def test_badge_where_the_learner_has_no_doubt() -> None:
    sure = Pool(4, committee=np.ones((1, 4, 1)), features=np.arange(4)[:, None])
    ranking = Badge().rank(sure, 4, batch_size=2, seed=0)
    assert sorted(ranking.indices.tolist()) == [0, 1, 2, 3]
    assert ranking.scores.tolist() == [0, 0, 0, 0]
