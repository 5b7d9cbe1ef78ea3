"""All strategies by their standard names.

A package adds strategies by an entry point in the group `label_studio_active_learning.strategies`: its name is the
strategy's name, its object is called with the parameters and returns a `Strategy`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from strategies.at_random import Random
from strategies.balance import Balance, Quotas
from strategies.batch_bald import BatchBald
from strategies.centroids import Clue, KMeans, KMeansPlusPlus
from strategies.combination import FilterThenDiversify, Mixture
from strategies.committee import (
    Bald,
    ConsensusEntropy,
    ConsensusKL,
    MeanStandardDeviation,
    VariationRatio,
    VoteEntropy,
)
from strategies.coverage import MaxHerding, ProbCover, UncertaintyHerding
from strategies.default import Default
from strategies.density import InformationDensity, Representative
from strategies.diversity import KCenterGreedy
from strategies.domain import ActiveAdversarialDomainAdaptation, Discriminative
from strategies.faces import Novelty, UnknownClusters, VerificationThreshold
from strategies.gradients import Badge, ExpectedGradientLength
from strategies.near_duplicates import WithoutNearDuplicates
from strategies.objective import Objective
from strategies.objects import LocalisationStability, ObjectDiversity
from strategies.outliers import FarthestFromLabeled
from strategies.power_bald import PowerAcquisition, PowerBald
from strategies.product import Product
from strategies.protocol import Strategy
from strategies.ranked_batch import RankedBatch
from strategies.region_impurity import RegionImpurity
from strategies.regions import Regions
from strategies.scored import ScoredStrategy
from strategies.spec import Registry
from strategies.transfer import ActiveTransferLearning, Atlas
from strategies.typiclust import TypiClust
from strategies.uncertainty import Entropy, LeastConfidence, Margin, Ratio

FAMILIES: Mapping[str, Mapping[str, Callable[..., Strategy]]] = {
    "Default": {
        "default": Default,
    },
    "Baseline": {
        "random": Random,
    },
    "Uncertainty": {
        "least_confidence": LeastConfidence,
        "margin": Margin,
        "ratio": Ratio,
        "entropy": Entropy,
    },
    "Query by committee": {
        "vote_entropy": VoteEntropy,
        "variation_ratio": VariationRatio,
        "consensus_entropy": ConsensusEntropy,
        "consensus_kl": ConsensusKL,
        "mean_standard_deviation": MeanStandardDeviation,
        "bald": Bald,
        "power_bald": PowerBald,
        "power_acquisition": PowerAcquisition,
        "batch_bald": BatchBald,
    },
    "Expected model change": {
        "expected_gradient_length": ExpectedGradientLength,
        "badge": Badge,
    },
    "Diversity": {
        "k_center_greedy": KCenterGreedy,
        "farthest_from_labeled": FarthestFromLabeled,
        "k_means": KMeans,
        "k_means_plus_plus": KMeansPlusPlus,
        "clue": Clue,
    },
    "Coverage": {
        "typiclust": TypiClust,
        "prob_cover": ProbCover,
        "max_herding": MaxHerding,
        "uncertainty_herding": UncertaintyHerding,
    },
    "Density": {
        "information_density": InformationDensity,
        "representative": Representative,
        "ranked_batch": RankedBatch,
    },
    "Active transfer learning": {
        "active_transfer_learning": ActiveTransferLearning,
        "atlas": Atlas,
    },
    "Target domain": {
        "aada": ActiveAdversarialDomainAdaptation,
        "discriminative": Discriminative,
    },
    "Regions": {
        "regions": Regions,
        "region_impurity": RegionImpurity,
    },
    "Objects": {
        "localisation_stability": LocalisationStability,
        "object_diversity": ObjectDiversity,
    },
    "Faces": {
        "verification_threshold": VerificationThreshold,
        "novelty": Novelty,
        "unknown_clusters": UnknownClusters,
    },
    "Balance": {
        "balance": Balance,
        "quotas": Quotas,
    },
    "Combination": {
        "product": Product,
        "filter_then_diversify": FilterThenDiversify,
        "without_near_duplicates": WithoutNearDuplicates,
        "mixture": Mixture,
    },
}
"""What makes each of our strategies, by family and standard name."""

STRATEGIES = Registry(
    "strategy",
    {name: maker for family in FAMILIES.values() for name, maker in family.items()},
    base=Strategy,
    narrower={
        ScoredStrategy: "does not score each image by itself; take one that does, such as entropy.",
        Objective: "is no objective of a product; take one that scores each image by itself, such as margin, or "
        "k_center_greedy or balance.",
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
