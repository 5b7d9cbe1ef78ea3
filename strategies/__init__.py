"""What to label next: pure selection. Arrays in, ranking out."""

from strategies.at_random import Random
from strategies.combination import FilterThenDiversify, Mixture
from strategies.committee import Bald, VoteEntropy
from strategies.density import InformationDensity
from strategies.diversity import KCenterGreedy
from strategies.domain import ActiveAdversarialDomainAdaptation, Discriminative
from strategies.pool import Need, Pool, Units, Validation
from strategies.protocol import Ranking, Strategy
from strategies.regions import Regions
from strategies.registry import strategy, strategy_names
from strategies.scored import ScoredStrategy
from strategies.spec import InvalidSpec
from strategies.transfer import ActiveTransferLearning, Atlas
from strategies.typiclust import TypiClust
from strategies.uncertainty import Entropy, LeastConfidence, Margin

__all__ = [
    "ActiveAdversarialDomainAdaptation",
    "ActiveTransferLearning",
    "Atlas",
    "Bald",
    "Discriminative",
    "Entropy",
    "FilterThenDiversify",
    "InformationDensity",
    "InvalidSpec",
    "KCenterGreedy",
    "LeastConfidence",
    "Margin",
    "Mixture",
    "Need",
    "Pool",
    "Random",
    "Ranking",
    "Regions",
    "ScoredStrategy",
    "Strategy",
    "TypiClust",
    "Units",
    "Validation",
    "VoteEntropy",
    "strategy",
    "strategy_names",
]
