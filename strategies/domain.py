"""Towards a target domain: images that a discriminator tells from the labeled ones.

The target domain is the pool itself, as where the labeled set is of another dataset, or `Pool.target_embeddings`
where these are given. The discriminator is a logistic regression on embeddings. Both domains weigh the same in it,
and no more than the smaller one has images: few labeled images cannot make it certain. On many images it is fitted
to a random sample. Without labeled images all images are as much of the target domain.
"""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from strategies.adaptive import choose_adaptively
from strategies.logistic import LogisticModel
from strategies.ordering import by_content
from strategies.pool import Floats, Indices, Need, Pool, Scores
from strategies.protocol import Ranking, check_request
from strategies.scored import ScoredStrategy
from strategies.uncertainty import Entropy

# A domain's sample: this many times what there is of the other, within bounds.
_TIMES, _LEAST, _MOST = 10, 1000, 10_000
# An importance weight beyond this, either way, is rather the discriminator's error; entropy then decides.
_HIGHEST_WEIGHT = 10.0


@dataclass(frozen=True)
class Discriminative:
    """Discriminative active learning: the likeliest not to be labeled (Gissin & Shalev-Shwartz, 2019).

    Within a batch, a tenth of it at a time: what is chosen counts as labeled from then on, and the discriminator is
    fitted anew. Past the first batch, mini-batches grow with the ranking, to a quarter of what comes before them.
    """

    name = "discriminative"
    needs = frozenset({Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS})

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """The images least like those labeled or chosen before. Scores are of that time."""
        check_request(size, batch_size)
        domains = _Domains(pool)

        def of_target(picks: Indices) -> Scores:
            model = domains.discriminator(picks)
            return np.full(pool.size, 0.5) if model is None else model.probabilities(domains.embeddings)

        picks, scores = choose_adaptively(pool, size, batch_size, of_target)
        return Ranking(
            picks, scores, tuple(f"unlike the labeled images: told from them with {p:.0%}" for p in scores)
        )


@dataclass(frozen=True)
class ActiveAdversarialDomainAdaptation(ScoredStrategy):
    """AADA: entropy times the importance weight (1 − D) / D (Su et al., WACV 2020).

    D is the probability that an image is of the labeled domain, so the weight is how many times likelier an image
    is in the target domain than among the labeled. It is kept within 1/10 to 10. The paper trains learner and
    discriminator against each other; here the embeddings are what they are.
    """

    name = "aada"
    needs = frozenset({Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS, Need.PROBABILITIES})

    def scores(self, pool: Pool) -> Scores:
        return Entropy().scores(pool) * _importance(pool, pool.require(Need.EMBEDDINGS))

    def reason(self, pool: Pool, index: int) -> str:
        weight = float(_importance(pool, pool.require(Need.EMBEDDINGS)[[index]])[0])
        return (
            f"{Entropy().reason(pool, index)}; {weight:.1f} times as likely in the target domain as labeled"
        )


class _Domains:
    """The two sets of images that are told apart."""

    def __init__(self, pool: Pool) -> None:
        self.embeddings = pool.require(Need.EMBEDDINGS)
        labeled, target = pool.require(Need.LABELED_EMBEDDINGS), pool.target_embeddings
        others = pool.size if target is None else len(target)
        self.labeled = labeled[_sample(len(labeled), others)]
        self.target = None if target is None else target[_sample(others, len(labeled))]
        self.of_pool = by_content(pool)[_sample(pool.size, len(labeled))]

    def discriminator(self, picks: Indices) -> LogisticModel | None:
        """Tells the target from the labeled, with `picks` among them; None where one of the two is empty."""
        labeled = np.concatenate([self.labeled, self.embeddings[picks]])
        target = self._target(picks)
        smaller = min(len(labeled), len(target))
        if smaller == 0:
            return None
        of_target = np.arange(len(labeled) + len(target)) >= len(labeled)
        weights = np.where(of_target, smaller / len(target), smaller / len(labeled))
        return LogisticModel.fit(np.concatenate([labeled, target]), of_target, weights)

    def _target(self, picks: Indices) -> Floats:
        if self.target is not None:
            return self.target
        return self.embeddings[self.of_pool[~np.isin(self.of_pool, picks)]]


def _sample(size: int, other: int) -> Indices:
    """Positions of the images, of `size`, that stand for a domain against one of `other` images: the same each time."""
    most = min(max(_TIMES * other, _LEAST), _MOST)
    return np.sort(np.random.default_rng(0).permutation(size)[:most])


_DISCRIMINATORS: WeakKeyDictionary[Pool, LogisticModel | None] = WeakKeyDictionary()


def _importance(pool: Pool, embeddings: Floats) -> Scores:
    """(n,) the weight (1 − D) / D of each of the embeddings."""
    if pool not in _DISCRIMINATORS:  # a reason for each of many images takes one fit
        _DISCRIMINATORS[pool] = _Domains(pool).discriminator(np.empty(0, dtype=np.int64))
    model = _DISCRIMINATORS[pool]
    if model is None:
        return np.ones(len(embeddings))
    of_target = model.probabilities(embeddings)
    weights: Scores = np.clip(of_target / (1 - of_target), 1 / _HIGHEST_WEIGHT, _HIGHEST_WEIGHT)
    return weights
