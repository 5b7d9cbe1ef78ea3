"""All strategies by their standard names.

A package adds strategies by an entry point in the group `label_studio_active_learning.strategies`: its name is the
strategy's name, its object is called with the parameters and returns a `Strategy`.
"""

from collections.abc import Mapping
from typing import Any

from strategies.at_random import Random
from strategies.combination import FilterThenDiversify, Mixture
from strategies.committee import Bald, VoteEntropy
from strategies.density import InformationDensity
from strategies.diversity import KCenterGreedy
from strategies.domain import ActiveAdversarialDomainAdaptation, Discriminative
from strategies.protocol import Strategy
from strategies.regions import Regions
from strategies.scored import ScoredStrategy
from strategies.spec import Registry
from strategies.transfer import ActiveTransferLearning, Atlas
from strategies.typiclust import TypiClust
from strategies.uncertainty import Entropy, LeastConfidence, Margin

STRATEGIES = Registry(
    "strategy",
    {
        "random": Random,
        # Uncertainty
        "least_confidence": LeastConfidence,
        "margin": Margin,
        "entropy": Entropy,
        # Query by committee
        "vote_entropy": VoteEntropy,
        "bald": Bald,
        # Diversity
        "k_center_greedy": KCenterGreedy,
        "typiclust": TypiClust,
        # Density
        "information_density": InformationDensity,
        # Active transfer learning
        "active_transfer_learning": ActiveTransferLearning,
        "atlas": Atlas,
        # Target domain
        "aada": ActiveAdversarialDomainAdaptation,
        "discriminative": Discriminative,
        # Regions
        "regions": Regions,
        # Combination
        "filter_then_diversify": FilterThenDiversify,
        "mixture": Mixture,
    },
    base=Strategy,
    narrower={
        ScoredStrategy: "does not score each image by itself; take one that does, such as entropy.",
    },
    group="label_studio_active_learning.strategies",
    plainest="margin",
    example="{information_density: {beta: 2}}",
)


def strategy(spec: str | Mapping[str, Any]) -> Strategy:
    """The strategy that a spec describes. Raises InvalidSpec."""
    made: Strategy = STRATEGIES.make(spec)
    return made


def strategy_names() -> list[str]:
    """All strategies there are, ours and those of installed packages."""
    return STRATEGIES.names()
