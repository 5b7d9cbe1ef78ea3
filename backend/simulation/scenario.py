"""What a seed decides: which images are the pool, which measure the model, and which of them at random."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.simulation.dataset import Dataset
from backend.simulation.hard_cases import HardCases, Images, as_they_are, make_hard

TEST_SHARE = 1 / 4  # of a dataset that comes without a test split
MOST_TEST_IMAGES = 2_000


@dataclass(frozen=True)
class Scenario:
    """The same for all strategies.

    candidates: what a strategy chooses from.
    audit: audit tasks, in the order in which they come up.
    test: what the score is measured on; no strategy sees it.
    groups: for each metadata field its value for each image of the dataset.
    """

    seed: int
    candidates: Images
    audit: Images
    test: Images
    groups: Mapping[str, NDArray[np.str_]]

    @property
    def pool_size(self) -> int:
        """How many labels there are to have."""
        return len(self.candidates) + len(self.audit)


def make_scenario(dataset: Dataset, hard_cases: HardCases, audit_share: float, seed: int) -> Scenario:
    """Split the dataset. Raises ValueError where it is too small for that."""
    splitting, hardening, auditing = np.random.default_rng(seed).spawn(3)
    test = dataset.test
    if test is None:
        size = min(round(TEST_SHARE * len(dataset)), MOST_TEST_IMAGES)
        test = np.sort(splitting.permutation(len(dataset))[:size])
    pool = np.setdiff1d(np.arange(len(dataset)), test)
    if not len(test) or not len(pool):
        raise ValueError(
            f"{dataset.name} has {len(dataset)} images; that is too few for a pool and a test set."
        )
    images = make_hard(dataset, as_they_are(dataset, pool), hard_cases, hardening)
    order = auditing.permutation(len(images))
    audited = round(audit_share * len(images))
    return Scenario(
        seed,
        candidates=images.take(np.sort(order[audited:])),
        audit=images.take(order[:audited]),
        test=as_they_are(dataset, test),
        groups=dataset.groups,
    )


def without(scenario: Scenario, broken: frozenset[int]) -> Scenario:
    """The scenario less the images, by their positions in the dataset, that cannot be read."""
    gone = np.array(sorted(broken), np.int64)

    def readable(images: Images) -> Images:
        return images.take(np.flatnonzero(~np.isin(images.positions, gone)))

    return Scenario(
        scenario.seed,
        readable(scenario.candidates),
        readable(scenario.audit),
        readable(scenario.test),
        scenario.groups,
    )
