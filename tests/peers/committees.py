"""A committee for the tests beside other libraries: what they train themselves, and the pool as ours sees it."""

from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from strategies import Pool

MEMBERS = 5


class Digits(NamedTuple):
    """images: (size, 64) the pool. training: for each member images and digits of a sample of its own."""

    images: np.ndarray
    training: list[tuple[np.ndarray, np.ndarray]]


def digits(size: int = 300) -> Digits:
    images, labels = load_digits(return_X_y=True)
    images = images / 16
    rng = np.random.default_rng(0)
    samples = [np.append(np.arange(60), rng.choice(np.arange(60, 400), 40)) for _ in range(MEMBERS)]
    return Digits(images[500 : 500 + size], [(images[sample], labels[sample]) for sample in samples])


def learner() -> LogisticRegression:
    return LogisticRegression(C=3, max_iter=500)


def pool(data: Digits) -> Pool:
    committee = [learner().fit(*sample).predict_proba(data.images) for sample in data.training]
    return Pool(len(data.images), committee=np.array(committee), features=data.images)
