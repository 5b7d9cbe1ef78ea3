"""BatchBALD: batches that tell most, together, about which member of the committee is right."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from strategies.committee import Bald
from strategies.lazy import LazyGreedy
from strategies.ordering import highest
from strategies.pool import Indices, Need, Pool, Scores
from strategies.protocol import Ranking, check_request

_CANDIDATES = 1024  # for a batch: those with the highest BALD
_CONFIGURATIONS = 2**13  # of the labels of a batch, times the answers for one more image
_FEWEST = 64  # of these, however many the answers
_NUMBERS = 2**18  # at once: 2 MB, which stay in a processor's cache
_SETTLED = 0.01  # of the highest BALD: when no image adds more, the committee has told what it can


@dataclass(frozen=True)
class BatchBald:
    """Mutual information of the model and a batch's labels taken together, in nats (Kirsch et al., NeurIPS 2019).

    Chosen greedily: each image adds most to what the labels before it in the batch will tell, and that is its score.
    The members stand for draws from the posterior, so that no batch tells more than log(members). Once no image adds
    a hundredth of the highest BALD, the rest of a batch is chosen as if it were one of its own.

    What an image adds is its BALD under the posterior that the labels before it leave, in expectation over these.
    All their configurations are gone through while they are few; beyond that, a systematic sample of them. What an
    image adds only shrinks as the batch grows, because labels are independent given the model, so a stale value is
    an upper bound and only the images at the top are looked at again. With sampled configurations that is as true
    as the sample. The candidates for a batch are the 1,024 images with the highest BALD, which is the first bound.
    """

    name = "batch_bald"
    needs = frozenset({Need.COMMITTEE})

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """Each batch of `batch_size` is chosen together; the next starts anew among those that are left."""
        check_request(size, batch_size)
        alone = Bald().scores(pool)
        left = highest(pool, alone, pool.size)
        rng = np.random.default_rng(seed)
        size = min(size, pool.size)
        indices: Indices = np.empty(0, dtype=np.int64)
        scores: Scores = np.empty(0)
        while len(indices) < size:
            candidates = left[: max(_CANDIDATES, batch_size)]
            wanted = min(batch_size - len(indices) % batch_size, size - len(indices))
            picks, gains = _Batch(pool, candidates, alone[candidates], rng).picks(wanted)
            if not len(picks):  # the members agree on all that is left
                picks, gains = candidates[:wanted], np.zeros(wanted)
            indices, scores = np.append(indices, picks), np.append(scores, gains)
            left = left[~np.isin(left, picks)]
        picked = zip(indices, alone[indices], scores, strict=True)
        return Ranking(indices, scores, tuple(_reason(pool, *pick) for pick in picked))


def _reason(pool: Pool, index: int, alone: float, gain: float) -> str:
    reason = Bald().reason(pool, index)
    if gain >= 0.995 * alone:
        return reason
    return f"{reason}; the labels before it in the batch will settle {1 - gain / alone:.0%} of that"


class _Batch(LazyGreedy):
    """A batch, and what is known of the committee given its labels, whatever they will be.

    The answers to a question are the classes. Of several labels each is a question of its own, answered yes or no.

    gains: (n,) what each candidate adds, or more; -inf for the picks.
    chances: (questions, configurations) probability of each configuration of the picks' labels.
    weights: (questions, configurations, members) probability of each member given these labels.
    """

    def __init__(self, pool: Pool, candidates: Indices, alone: Scores, rng: np.random.Generator) -> None:
        super().__init__(pool, candidates, least=_SETTLED * float(alone.max()))
        self.committee = pool.require(Need.COMMITTEE)
        self.rng = rng
        members, _, classes = self.committee.shape
        self.questions, self.answers = (classes, 2) if pool.multi_label else (1, classes)
        self.limit = max(_FEWEST, _CONFIGURATIONS // (self.questions * self.answers))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.gains = torch.from_numpy(alone).to(device)
        self.chances = self.gains.new_ones(self.questions, 1)
        self.weights = self.gains.new_full((self.questions, 1, members), 1 / members)

    def bounds(self) -> Tensor:
        return self.gains

    def score(self, places: Tensor) -> Tensor:
        width = max(1, _NUMBERS // (self.chances.numel() * self.answers))
        for start in range(0, len(places), width):
            part = places[start : start + width]
            self.gains[part] = self._gains(part)
        return self.gains[places]

    def _gains(self, places: Tensor) -> Tensor:
        p = self._probabilities(places)
        chances = self.chances[:, None]
        together = (self.weights @ p.flatten(2)).reshape(*self.chances.shape, *p.shape[2:])
        own = chances @ self.weights @ torch.special.entr(p).sum(dim=3)
        gains: Tensor = chances @ torch.special.entr(together).sum(dim=3) - own
        return gains.mean(dim=(0, 1)).clamp(min=0)

    def add(self, place: int) -> None:
        self.gains[place] = -torch.inf
        p = self._probabilities(torch.tensor([place]))[:, :, 0]
        joint = (self.weights[:, :, None] * p.mT[:, None]).flatten(1, 2)
        evidence = joint.sum(dim=2)
        self.chances = self.chances.repeat_interleave(self.answers, dim=1) * evidence
        self.chances /= self.chances.sum(dim=1, keepdim=True)
        self.weights = joint / evidence.clamp(min=torch.finfo(torch.float64).tiny)[:, :, None]
        if self.chances.shape[1] > self.limit:
            self._sample()

    def _sample(self) -> None:
        """A systematic sample of the configurations: each is in it about as often as its chance says."""
        marks = (np.arange(self.limit) + self.rng.random()) / self.limit
        cumulative = self.chances.cumsum(dim=1)
        targets = cumulative[:, -1:] * torch.from_numpy(marks).to(self.gains.device)
        kept = torch.searchsorted(cumulative, targets, right=True)
        self.weights = torch.stack([w[k] for w, k in zip(self.weights, kept, strict=True)])
        self.chances = torch.full_like(targets, 1 / self.limit)

    def _probabilities(self, places: Tensor) -> Tensor:
        """(questions, members, k, answers)"""
        rows = self.committee[:, self.candidates[places.cpu().numpy()]]
        p = torch.from_numpy(rows).to(self.gains.device).double().clamp(0, 1)
        if self.pool.multi_label:
            return torch.stack([p, 1 - p], dim=3).permute(2, 0, 1, 3)
        return p[None]
