"""BADGE has scikit-activeml's gradients, and gradient lengths are small-text's; the rest is as the papers say."""

import numpy as np
import torch
from skactiveml.classifier import SklearnClassifier
from skactiveml.pool import Badge as ScikitBadge
from small_text.integrations.pytorch.query_strategies import strategies as small_text
from torch import nn

from strategies import Badge, ExpectedGradientLength, Pool
from strategies.gradients import _Gradients
from tests.peers.committees import digits, learner

DATA = digits()
IMAGES, LABELS = DATA.training[0]
ONE = Pool(
    len(DATA.images),
    committee=learner().fit(IMAGES, LABELS).predict_proba(DATA.images)[None],
    features=DATA.images,
)


class WithFeatures(SklearnClassifier):
    """Tells BADGE the features of the last layer with the 1 of its bias, which theirs leaves out."""

    def predict_proba(self, x: np.ndarray, *, features: bool = False) -> tuple[np.ndarray, np.ndarray]:
        return super().predict_proba(x), np.hstack([x, np.ones((len(x), 1))])


def test_badge_as_scikit_activeml_but_for_the_origin() -> None:
    size = 8
    classifier = WithFeatures(learner(), classes=range(10)).fit(IMAGES, LABELS.astype(float))
    picks, chances = ScikitBadge("features", random_state=0).query(
        IMAGES,
        LABELS.astype(float),
        classifier,
        fit_clf=False,
        candidates=DATA.images,
        batch_size=size,
        return_utilities=True,
    )
    assert Badge().rank(ONE, size, batch_size=size, seed=0).indices[0] == picks[0]
    gradients = _Gradients(ONE)
    squares = gradients.squared_distances(np.arange(ONE.size), np.array(picks))
    for k in range(1, size):
        nearest = squares[:, :k].min(axis=1)
        # Theirs counts no gradient at all as drawn before the first. Ash et al. (2020) draw as k-means++ does, by the
        # distance to what is drawn.
        with_origin = np.minimum(nearest, gradients.squared_lengths)
        np.testing.assert_allclose(with_origin / with_origin.sum(), np.nan_to_num(chances[k]), atol=1e-6)
    assert (with_origin < nearest).any()


def test_small_texts_badge_does_not_make_gradients() -> None:
    # It means to take 1 from the likeliest class's probability and does not, so that its vectors are p ⊗ h: longest
    # where the learner is surest, where the gradient (p − e_y) ⊗ h of Ash et al. (2020) is shortest.
    p = np.array([[0.98, 0.01, 0.01], [0.34, 0.33, 0.33]])
    theirs = small_text.BADGE(3).get_badge_embeddings(np.ones((2, 4)), p.copy())
    np.testing.assert_allclose(np.abs(theirs), np.repeat(p, 4, axis=1))
    sure, unsure = np.linalg.norm(theirs, axis=1)
    assert sure > unsure
    sure, unsure = _Gradients(Pool(2, committee=p[None], features=np.ones((2, 4)))).squared_lengths
    assert sure < unsure


class Net:
    """As much of a small-text classifier as gradient lengths ask for: the learner as a network of one layer."""

    def __init__(self) -> None:
        fitted = learner().fit(IMAGES, LABELS)
        self.model = nn.Sequential(nn.Linear(64, 10))
        with torch.no_grad():
            self.model[0].weight.copy_(torch.from_numpy(fitted.coef_))
            self.model[0].bias.copy_(torch.from_numpy(fitted.intercept_))


def lengths(strategy: small_text.ExpectedGradientLength, count: int) -> np.ndarray:
    strategy.device = "cpu"
    scores = strategy.initialize_gradient_lengths_array(count)
    images = torch.from_numpy(DATA.images[:count]).float()
    strategy.compute_gradient_lengths(Net(), nn.CrossEntropyLoss(reduction="none"), scores, 0, images)
    return scores


def test_expected_gradient_length_as_small_text() -> None:
    theirs = lengths(small_text.ExpectedGradientLengthLayer(10, "0"), 20)
    np.testing.assert_allclose(ExpectedGradientLength().scores(ONE)[:20], theirs, rtol=1e-5)


def test_small_texts_gradient_length_over_all_layers_is_a_sum_of_absolute_values() -> None:
    # Settles et al. (2007) take the Euclidean length, as its own variant for one layer does.
    theirs = lengths(small_text.ExpectedGradientLength(10), 20)
    p = ONE.probabilities[:20]
    absolute = sum(p[:, [y]] * np.abs(p - np.eye(10)[y]) for y in range(10)).sum(axis=1)
    np.testing.assert_allclose(theirs, absolute * (DATA.images[:20].sum(axis=1) + 1), rtol=1e-4)
    assert (theirs > 2 * ExpectedGradientLength().scores(ONE)[:20]).all()
