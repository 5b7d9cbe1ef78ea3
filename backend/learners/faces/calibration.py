"""From which similarity on a face is someone known, and how sure a cosine makes one: from faces that were held out.

A network has pulled the faces that it was trained on towards their people, so what it says of these is too good. Hence
some networks are trained for calibration alone. Each is without some people altogether, who are strangers to it, and
without some faces of the others, whom it knows from their other faces. Every label is the face of a stranger to one of
them, and a held-out face of somebody known to another.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from backend.learners.faces.metric_learning import Labels, MetricSpace, centres, scale

FOLDS = 5
HELD_OUT_LABELS = 2000  # more change nothing but the time it takes
UNTRIED = 0.5  # the threshold before there is anything to set it by
SCALES = torch.logspace(0, 2, 41)  # candidates for what cosines are multiplied by


@dataclass(frozen=True)
class Folds:
    """stranger_to, left_out_by: (labels,) the network that does not know a label's person, and the one without it."""

    stranger_to: Tensor
    left_out_by: Tensor

    def weights(self) -> Tensor:
        """(FOLDS, labels): 0 for what a network is without, 1 for all else."""
        networks = torch.arange(FOLDS)[:, None]
        return ((self.stranger_to != networks) & (self.left_out_by != networks)).float()


@dataclass(frozen=True)
class Calibration:
    """threshold: similarity from which a face is of somebody known. scale: what cosines are multiplied by before the
    softmax over the people known."""

    threshold: float
    scale: float


def deal_folds(people: Tensor, generator: torch.Generator) -> Folds:
    """Deal out people (labels,) and the labels of each, evenly and at random."""
    fold = torch.randperm(int(people.max()) + 1, generator=generator) % FOLDS
    shuffled = torch.randperm(len(people), generator=generator)
    dealt = torch.empty(len(people), dtype=torch.long)
    dealt[shuffled[people[shuffled].argsort(stable=True)]] = torch.arange(len(people)) % (FOLDS - 1)
    return Folds(fold[people], (fold[people] + 1 + dealt) % FOLDS)


def calibrate(space: MetricSpace, labels: Labels, folds: Folds, generator: torch.Generator) -> Calibration:
    """space: of the networks that are trained by the weights of `folds`."""
    positions = space.positions(space.coordinates(labels.faces))
    centre = centres(positions, labels)
    looked_at = torch.zeros(len(labels.people), dtype=torch.bool)
    looked_at[torch.randperm(len(labels.people), generator=generator)[:HELD_OUT_LABELS]] = True
    right, strangers, log_loss = [], [], torch.zeros(len(SCALES))
    for network in range(FOLDS):
        is_known = centre[network].square().sum(dim=1) > 0.5  # else, it is 0
        if not is_known.any():
            continue
        stranger = looked_at & (folds.stranger_to == network)
        left_out = looked_at & (folds.left_out_by == network) & is_known[labels.people]
        known = centre[network, is_known].T
        strangers.append((positions[network, stranger] @ known).amax(dim=1))
        cosines = positions[network, left_out] @ known
        own = (is_known.cumsum(0) - 1)[labels.people[left_out], None]
        right.append(cosines.gather(1, own)[:, 0])
        logits = SCALES[:, None, None] * cosines
        log_loss += (logits.logsumexp(dim=2) - SCALES[:, None] * right[-1]).sum(dim=1)
    # A prior of one e-fold around the scale of training: a few faces that are all right ask for an infinite one.
    log_loss += (SCALES / scale(labels.count)).log().square() / 2
    return Calibration(equal_error_threshold(right, strangers), float(SCALES[log_loss.argmin()]))


def equal_error_threshold(right: list[Tensor], strangers: list[Tensor]) -> float:
    """The similarity at which as large a share of known faces is taken for unknown as of strangers for known.

    right: similarities of faces to their own person. strangers: of strangers to whom they are likest. Without known
    faces it is what no stranger exceeds; an invented stranger of similarity 0 stands beside the others; with neither,
    it is `UNTRIED`.
    """
    known = torch.cat([torch.empty(0), *right]).sort().values
    unknown = torch.cat([torch.zeros(1), *strangers]).sort().values
    if not len(known):
        return float(unknown[-1]) if len(unknown) > 1 else UNTRIED
    values = torch.cat([known, unknown]).sort().values
    between = (values[1:] + values[:-1]) / 2
    missed = torch.searchsorted(known, between) / len(known)
    accepted = (len(unknown) - torch.searchsorted(unknown, between)) / len(unknown)
    error = torch.maximum(missed, accepted)
    best = between[error == error.min()]
    return float((best[0] + best[-1]) / 2)
