"""What to label next where nobody says otherwise."""

from dataclasses import dataclass, field

from strategies.coverage import MaxHerding
from strategies.near_duplicates import WithoutNearDuplicates
from strategies.pool import Need, Pool
from strategies.protocol import Ranking, Strategy, check_request
from strategies.uncertainty import Margin


@dataclass(frozen=True)
class Default:
    """One strategy while labels are few and another when they are many (Hacohen et al., ICML 2022).

    While there is no learner, or fewer than `labels_per_class` labels a class, its probabilities say little, and the
    images that most of the pool is like teach it most. After that the ones that it is unsure of do, of near-duplicates
    one.

    Raises ValueError for a negative number of labels.
    """

    few: Strategy = field(default_factory=MaxHerding)
    many: Strategy = field(default_factory=lambda: WithoutNearDuplicates(Margin()))
    labels_per_class: float = 10
    needs: frozenset[Need] = field(init=False, repr=False)

    name = "default"

    def __post_init__(self) -> None:
        if not self.labels_per_class >= 0:
            raise ValueError(f"labels_per_class is {self.labels_per_class}; write a number, 0 or more.")
        object.__setattr__(self, "needs", self.few.needs | self.many.needs | {Need.LABELED_EMBEDDINGS})

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """By the phase that labeling is in now, to the end of the ranking: the next round asks again."""
        check_request(size, batch_size)
        labels = len(pool.require(Need.LABELED_EMBEDDINGS))
        few = pool.committee is None or labels < self.labels_per_class * pool.committee.shape[2]
        return (self.few if few else self.many).rank(pool, size, batch_size=batch_size, seed=seed)
