"""Outliers: the images least like anything labeled."""

from dataclasses import dataclass

import numpy as np

from strategies.distances import Space
from strategies.nearest import nearest
from strategies.pool import Need, Pool, Scores
from strategies.scored import ScoredStrategy


@dataclass(frozen=True)
class FarthestFromLabeled(ScoredStrategy):
    """Distance to the nearest labeled image (outlier sampling; Munro, Human-in-the-Loop ML, 2021, ch. 4).

    What is picked together may be alike; `k_center_greedy` is the same with regard to the picks before. With nothing
    labeled all images score 0.
    """

    name = "farthest_from_labeled"
    needs = frozenset({Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS})

    def scores(self, pool: Pool) -> Scores:
        embeddings, labeled = pool.require(Need.EMBEDDINGS), pool.require(Need.LABELED_EMBEDDINGS)
        distances = np.zeros(pool.size)
        if not len(labeled):
            return distances
        space = Space(embeddings)
        for block, rows in space.blocks():
            assert isinstance(block, slice)
            closest = labeled[nearest(rows, space, labeled)[1].cpu().numpy()]
            # Once more and directly: the last bits of a matrix product depend on where the row stands.
            apart = embeddings[block].astype(np.float64) - closest
            distances[block] = np.sqrt((apart * apart).sum(axis=1))
        return distances

    def reason(self, pool: Pool, index: int) -> str:
        if not len(pool.require(Need.LABELED_EMBEDDINGS)):
            return "nothing is labeled yet"
        return "unlike all that is labeled"
