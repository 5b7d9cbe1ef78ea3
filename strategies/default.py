"""What to label next where nobody says otherwise."""

from dataclasses import dataclass, field

from strategies.coverage import MaxHerding, UncertaintyHerding
from strategies.pool import Need, Pool
from strategies.protocol import Ranking, Strategy
from strategies.regions import Regions
from strategies.uncertainty import Entropy


def _herding_of_parts() -> Strategy:
    return UncertaintyHerding(Regions(Entropy(), reduction="sum"))


@dataclass(frozen=True)
class Default:
    """Coverage of the pool until there is a learner, then coverage of what it is unsure of.

    Which phase it is needs no threshold: the uncertainty of a new learner is spread over the pool, so that with few
    labels the second is much like the first; as labels come in, it gathers at the borders between classes.
    Where the learner judges parts of the images, boxes or cells, its doubts of them are added up: an image costs about
    the same with much to learn in it as with little.
    """

    cold_start: Strategy = field(default_factory=MaxHerding)
    learned: Strategy = field(default_factory=UncertaintyHerding)
    learned_in_parts: Strategy = field(default_factory=_herding_of_parts)
    needs: frozenset[Need] = field(init=False, repr=False)

    name = "default"

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs", self.cold_start.needs | self.learned.needs)

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        """By the strategy of the phase. A pool without a committee is one without a learner."""
        if pool.committee is None:
            phase = self.cold_start
        else:
            phase = self.learned if pool.units is None else self.learned_in_parts
        return phase.rank(pool, size, batch_size=batch_size, seed=seed)
