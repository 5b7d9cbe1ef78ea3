"""Several objectives at once, as a product."""

from dataclasses import dataclass, field

import numpy as np

from strategies.greedy import Greedy
from strategies.objective import Objective
from strategies.pool import Need, Pool
from strategies.protocol import Ranking, check_request


@dataclass(frozen=True)
class Product:
    """The image with the largest product of objectives, each to the power of its strength, pick by pick.

    A product does not ask in which units an objective is, and takes an image that is good in all over one that is best
    in one. Diversity and balance count what was picked before. It is how Lightly's selection combines its strategies.

    An objective of 0 puts an image behind all that have fewer such, and the other objectives decide among those.

    objectives: strategies that score each image by itself, k_center_greedy, balance; strengths: one for each, all 1
    where none is given. Scores are the products, to the power of one over the sum of the strengths.

    Raises ValueError for no objective, and for strengths that do not fit.
    """

    objectives: tuple[Objective, ...]
    strengths: tuple[float, ...] = ()
    needs: frozenset[Need] = field(init=False, repr=False)

    name = "product"

    def __post_init__(self) -> None:
        if not self.objectives:
            raise ValueError("objectives is empty; a product is of one or more.")
        if not self.strengths:
            object.__setattr__(self, "strengths", (1.0,) * len(self.objectives))
        if len(self.strengths) != len(self.objectives):
            raise ValueError(
                f"strengths has {len(self.strengths)} numbers for {len(self.objectives)} objectives; "
                "give one for each, or none."
            )
        if not all(np.isfinite(s) and s > 0 for s in self.strengths):
            raise ValueError(f"strengths are {self.strengths}; each is a number above 0.")
        object.__setattr__(self, "needs", frozenset[Need]().union(*(o.needs for o in self.objectives)))

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """Each pick is the best given all before it, so batches need no care of their own."""
        check_request(size, batch_size)
        size = min(size, pool.size)
        greedy = Greedy(pool, [o.factor(pool, size) for o in self.objectives], self.strengths)
        picks = greedy.picks(size)
        return Ranking(picks.indices, np.prod(picks.values**greedy.strengths, axis=1), picks.reasons)
