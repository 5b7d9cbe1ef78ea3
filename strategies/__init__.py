"""What to label next: pure selection. Arrays in, ranking out."""

from strategies.at_random import Random
from strategies.protocol import Need, Pool, Ranking, Strategy
from strategies.scored import ScoredStrategy
from strategies.uncertainty import Entropy, LeastConfidence, Margin

__all__ = [
    "Entropy",
    "LeastConfidence",
    "Margin",
    "Need",
    "Pool",
    "Random",
    "Ranking",
    "ScoredStrategy",
    "Strategy",
]
