"""What to label next where nobody says otherwise."""

from dataclasses import dataclass, field

from strategies.coverage import MaxHerding, UncertaintyHerding
from strategies.pool import Need, Pool
from strategies.protocol import Ranking, Strategy


@dataclass(frozen=True)
class Default:
    """Coverage of the pool until there is a learner, then coverage of what it is unsure of.

    Which phase it is needs no threshold: the uncertainty of a new learner is spread over the pool, so that with few
    labels the second is much like the first; as labels come in, it gathers at the borders between classes.
    """

    cold_start: Strategy = field(default_factory=MaxHerding)
    learned: Strategy = field(default_factory=UncertaintyHerding)
    needs: frozenset[Need] = field(init=False, repr=False)

    name = "default"

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs", self.cold_start.needs | self.learned.needs)

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """By the strategy of the phase. A pool without a committee is one without a learner."""
        phase = self.cold_start if pool.committee is None else self.learned
        return phase.rank(pool, size, batch_size=batch_size, seed=seed)
