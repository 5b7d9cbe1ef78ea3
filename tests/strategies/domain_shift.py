"""A learner of clean digits meets a pool of which a quarter has slipped aside by two pixels."""

from statistics import mean

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from strategies import Pool, Strategy, Validation

_SEEDS = 3
_ROUNDS, _BATCH = 3, 20


def accuracy_under_shift(strategy: Strategy) -> float:
    """Accuracy on slipped digits after 200 labels of clean ones and 60 that `strategy` chose, mean over seeds."""
    return mean(_accuracy(strategy, seed) for seed in range(_SEEDS))


def _accuracy(strategy: Strategy, seed: int) -> float:
    digits = load_digits()
    images, y = (digits.images / 16).astype(np.float32), digits.target
    clean, slipped = (x.reshape(len(x), -1) for x in (images, np.roll(images, 2, axis=2)))
    rng = np.random.default_rng(seed)
    seen = np.where(rng.random((len(y), 1)) < 0.25, slipped, clean)
    labeled, validated, pool, test = np.split(rng.permutation(len(y)), [200, 300, 1300])
    x, targets = clean[labeled], y[labeled]
    for _ in range(_ROUNDS):
        learner = LogisticRegression(max_iter=300).fit(x, targets)
        ranking = strategy.rank(
            Pool(
                len(pool),
                committee=learner.predict_proba(seen[pool])[None],
                embeddings=seen[pool],
                labeled_embeddings=x,
                features=seen[pool],
                validation=Validation(seen[validated], learner.predict(seen[validated]) == y[validated]),
            ),
            _BATCH,
            batch_size=_BATCH,
            seed=seed,
        )
        chosen = pool[ranking.indices]
        x, targets = np.concatenate([x, seen[chosen]]), np.append(targets, y[chosen])
        pool = np.delete(pool, ranking.indices)
    return float(LogisticRegression(max_iter=300).fit(x, targets).score(slipped[test], y[test]))
