"""What to label next: pure selection. Arrays in, ranking out."""

from strategies.at_random import Random
from strategies.combination import FilterThenDiversify, Mixture
from strategies.committee import Bald, VoteEntropy
from strategies.density import InformationDensity
from strategies.diversity import KCenterGreedy
from strategies.protocol import Need, Pool, Ranking, Strategy
from strategies.scored import ScoredStrategy
from strategies.spec import InvalidStrategy, strategy, strategy_names
from strategies.typicality import Typicality
from strategies.uncertainty import Entropy, LeastConfidence, Margin

__all__ = [
    "Bald",
    "Entropy",
    "FilterThenDiversify",
    "InformationDensity",
    "InvalidStrategy",
    "KCenterGreedy",
    "LeastConfidence",
    "Margin",
    "Mixture",
    "Need",
    "Pool",
    "Random",
    "Ranking",
    "ScoredStrategy",
    "Strategy",
    "Typicality",
    "VoteEntropy",
    "strategy",
    "strategy_names",
]
