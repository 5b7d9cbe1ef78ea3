"""Classification in *head* mode: a committee of logistic regressions on stored embeddings.

Embeddings are centred and divided by one common scale. Scaling each feature by its own spread, the usual
standardisation, blows the small principal components of an embedding up into noise: with 50 labels it cost 20
to 35 points of accuracy on Fashion-MNIST, digits and blood cells.

Each member is the maximum a posteriori fit under a Gaussian prior on its weights. The prior's variance (the
`C` of scikit-learn) is chosen by five-fold cross-validation of the log loss, because acquisition scores need
calibrated probabilities. Members differ by Bayesian bootstrap weights (Rubin 1981, "The Bayesian bootstrap"):
unlike a resampled set, a weighted one never loses the only example of a class.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backend.learners.class_answers import ClassAnswers
from backend.learners.weights import load_weights, save_weights

FILE = "head.safetensors"
# Candidates for the variance of the prior on the weights, for embeddings scaled to a mean squared norm of 1.
# The best one falls slowly with the number of labels: from 300 to 10 on noisy sets, from 3000 to 300 on clean ones.
# Labels that a strategy chose want less than random ones: steps of five instead of three cost them half a point of
# accuracy on Fashion-MNIST. One standard error less (Breiman et al., 1984) cost two points and more at 20 to 50 labels.
VARIANCES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
FOLDS = 5
# Cross-validation on more labels than this changes nothing but the time it takes, for the same reason.
CROSS_VALIDATED_LABELS = 1000
# Fitting ends when an iteration gains less than this many nats a label, or at the latest after so many.
TOLERANCE = 1e-4
ITERATIONS = 60
BLOCK = 8192  # embeddings scored at a time


@dataclass(frozen=True)
class HeadCommittee:
    """Linear heads whose average is the prediction and whose disagreement is the uncertainty."""

    classes: tuple[str, ...]
    multi_label: bool
    weight: NDArray[np.float32]
    """(members, classes, embedding dimension)"""
    bias: NDArray[np.float32]
    """(members, classes, 1)"""
    variance: float
    """The variance that cross-validation chose, one of `VARIANCES`."""

    @property
    def members(self) -> int:
        return len(self.bias)

    @classmethod
    def fit(
        cls,
        embeddings: NDArray[Any],
        targets: NDArray[Any],
        classes: tuple[str, ...],
        *,
        multi_label: bool = False,
        members: int = 8,
        seed: int,
        weights: NDArray[Any] | None = None,
    ) -> Self:
        """Fit on `embeddings` (labels, dimension) and vote shares `targets` (labels, classes).

        Single-label targets sum to 1 in each row; multi-label ones each lie between 0 and 1. `weights` (labels,)
        says how much each label counts. A class without a label is given little probability, the less the more
        labels there are. The same seed gives the same committee. Raises ValueError for what cannot be fit.
        """
        check_labels(embeddings, targets, classes, multi_label)
        if weights is not None and (
            weights.shape != (len(targets),) or not (weights >= 0).all() or not weights.any()
        ):
            raise ValueError("weights must be one number for each label, none negative and not all zero")
        x = torch.tensor(embeddings, dtype=torch.float32)
        centre = x.mean(dim=0)
        x = x - centre
        scale = x.square().sum(dim=1).mean().sqrt().clamp(min=1e-6)
        x = x / scale
        t = torch.tensor(targets, dtype=torch.float32)
        importance = torch.ones(len(t)) if weights is None else torch.tensor(weights, dtype=torch.float32)
        importance = importance / importance.mean()

        generator = torch.Generator().manual_seed(seed)
        variance = _cross_validated_variance(x, t, importance, multi_label, generator)
        draws = torch.empty(members, len(t)).exponential_(generator=generator)
        draws = importance * draws / draws.mean(dim=1, keepdim=True)
        weight, bias = _fit_heads(x, t, draws, torch.full((members,), variance), multi_label)
        weight = weight / scale
        bias = bias - (weight @ centre)[..., None]
        return cls(tuple(classes), multi_label, weight.numpy(), bias.numpy(), variance)

    def probabilities(self, embeddings: NDArray[Any]) -> NDArray[np.float32]:
        """Each member's class probabilities for `embeddings` (n, dimension): (members, n, classes)."""
        weight, bias = torch.from_numpy(self.weight), torch.from_numpy(self.bias)
        result = torch.empty(self.members, len(embeddings), len(self.classes))
        for start in range(0, len(embeddings), BLOCK):
            block = torch.tensor(embeddings[start : start + BLOCK], dtype=torch.float32)
            logits = _logits(block, weight, bias)
            probabilities = logits.sigmoid() if self.multi_label else logits.softmax(dim=1)
            result[:, start : start + BLOCK] = probabilities.transpose(1, 2)
        return result.numpy()

    def answers(self, embeddings: NDArray[np.float32]) -> ClassAnswers:
        """What it says of images with these embeddings, (images, dimension)."""
        return ClassAnswers(self.classes, self.multi_label, self.probabilities(embeddings))

    def save(self, directory: Path) -> None:
        """Write the committee into `directory`, replacing the one there in a single step."""
        description = {"classes": self.classes, "multi_label": self.multi_label, "variance": self.variance}
        save_weights(directory / FILE, {"weight": self.weight, "bias": self.bias}, description)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote. Raises FileNotFoundError and `weights.DamagedWeights`."""
        arrays, description = load_weights(directory / FILE)
        return cls(
            tuple(description["classes"]),
            description["multi_label"],
            arrays["weight"],
            arrays["bias"],
            description["variance"],
        )


def why_untrainable(targets: NDArray[Any], minimum_labels: int, *, multi_label: bool) -> str | None:
    """A sentence that says what is missing before a learner can be trained; None: nothing is.

    targets: (labels, classes) vote shares of the training set.
    """
    if len(targets) < minimum_labels:
        return (
            f"{len(targets)} of {minimum_labels} labels that the first model needs (audit tasks not counted)"
        )
    if multi_label:
        informative = ((targets > 0.5).any(axis=0) & (targets < 0.5).any(axis=0)).any()
        return None if informative else "every label so far is the same; a model needs a difference to learn"
    if (targets.sum(axis=0) > 0).sum() < 2:
        return "all labels so far are of one class; a model needs at least two"
    return None


def check_labels(
    embeddings: NDArray[Any], targets: NDArray[Any], classes: tuple[str, ...], multi_label: bool
) -> None:
    """Raises ValueError where `embeddings` and `targets` are not what `HeadCommittee.fit` can be given."""
    labels = len(targets)
    if labels == 0:
        raise ValueError("there is no label to learn from")
    if targets.shape != (labels, len(classes)) or embeddings.ndim != 2 or len(embeddings) != labels:
        raise ValueError(
            f"expected a row of {len(classes)} targets for each embedding, "
            f"got targets {targets.shape} and embeddings {embeddings.shape}"
        )
    if not np.isfinite(embeddings).all():
        raise ValueError("an embedding is not finite: embed its image again")
    if not ((targets >= 0) & (targets <= 1)).all():
        raise ValueError("targets must lie between 0 and 1")
    if not multi_label and not np.allclose(targets.sum(axis=1), 1, atol=1e-3):
        raise ValueError("single-label targets must sum to 1 in each row")


def _cross_validated_variance(
    x: Tensor, targets: Tensor, importance: Tensor, multi_label: bool, generator: torch.Generator
) -> float:
    """The candidate of `VARIANCES` with the least log loss on held-out labels."""
    chosen = torch.randperm(len(x), generator=generator)[:CROSS_VALIDATED_LABELS]
    x, targets, importance = x[chosen], targets[chosen], importance[chosen]
    folds = min(FOLDS, len(x))
    fold = torch.empty(len(x), dtype=torch.long)
    fold[targets.argmax(dim=1).argsort(stable=True)] = (
        torch.arange(len(x)) % folds
    )  # each class in every fold
    held_out = fold == torch.arange(folds)[:, None]  # (folds, labels)

    weight, bias = _fit_heads(
        x,
        targets,
        (importance * ~held_out).repeat(len(VARIANCES), 1),
        torch.tensor(VARIANCES).repeat_interleave(folds),
        multi_label,
    )
    loss = cross_entropy(_logits(x, weight, bias), targets.T, multi_label)
    by_candidate = (loss.view(len(VARIANCES), folds, -1) * held_out * importance).sum(dim=(1, 2))
    return VARIANCES[int(by_candidate.argmin())]


def _fit_heads(
    x: Tensor, targets: Tensor, weights: Tensor, variances: Tensor, multi_label: bool
) -> tuple[Tensor, Tensor]:
    """Fit many heads at once, by L-BFGS on the sum of their penalised losses.

    `x` (labels, dimension), `targets` (labels, classes), `weights` (heads, labels), `variances` (heads,). Returns
    weights (heads, classes, dimension) and biases (heads, classes, 1). Beside the labels stands an invented one,
    at the centre of the embeddings and without a preference, so that no bias runs away.
    """
    heads, classes = len(weights), targets.shape[1]
    x = torch.cat([x, x.new_zeros(1, x.shape[1])])
    targets = torch.cat([targets, targets.new_full((1, classes), 0.5 if multi_label else 1 / classes)])
    weights = torch.cat([weights, weights.new_ones(heads, 1)], dim=1)
    # The search is over weights in units of their prior's standard deviation: heads are then alike in scale.
    deviation = variances.sqrt()[:, None, None]
    weight = x.new_zeros(heads, classes, x.shape[1], requires_grad=True)
    bias = x.new_zeros(heads, classes, 1, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias],
        max_iter=ITERATIONS,
        tolerance_grad=0,
        tolerance_change=TOLERANCE,
        line_search_fn="strong_wolfe",
    )

    def loss_and_gradient() -> Tensor:
        optimiser.zero_grad()
        misfit = cross_entropy(_logits(x, weight * deviation, bias), targets.T, multi_label)
        loss = ((weights * misfit).sum() + weight.square().sum() / 2) / weights.sum()
        torch.autograd.backward(loss)
        return loss.detach()

    optimiser.step(loss_and_gradient)  # type: ignore[no-untyped-call]
    return (weight * deviation).detach(), bias.detach()


def _logits(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(heads, classes, rows) for `x` (rows, dimension): softmax is fast along rows that lie side by side."""
    return (weight.flatten(0, 1) @ x.T).view(*weight.shape[:2], len(x)) + bias


def cross_entropy(logits: Tensor, targets: Tensor, multi_label: bool) -> Tensor:
    """Nats (heads, rows) of `logits` (heads, classes, rows) against `targets`, (classes, rows) or as `logits`."""
    if multi_label:
        return (torch.nn.functional.softplus(logits) - targets * logits).sum(dim=1)
    return logits.logsumexp(dim=1) - (targets * logits).sum(dim=1)
