"""What to label next: pure selection. Arrays in, ranking out."""

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
from strategies.objective import Factor, Objective
from strategies.objects import LocalisationStability, ObjectDiversity
from strategies.outliers import FarthestFromLabeled
from strategies.pool import MissingNeed, Need, Pool, Units, Validation, Verification
from strategies.power_bald import PowerAcquisition, PowerBald
from strategies.product import Product
from strategies.protocol import Ranking, Strategy
from strategies.ranked_batch import RankedBatch
from strategies.region_impurity import RegionImpurity
from strategies.regions import Regions
from strategies.registry import strategy, strategy_names
from strategies.scored import ScoredStrategy
from strategies.spec import InvalidSpec
from strategies.transfer import ActiveTransferLearning, Atlas
from strategies.typiclust import TypiClust
from strategies.uncertainty import Entropy, LeastConfidence, Margin, Ratio

__all__ = [
    "ActiveAdversarialDomainAdaptation",
    "ActiveTransferLearning",
    "Atlas",
    "Badge",
    "Balance",
    "Bald",
    "BatchBald",
    "Clue",
    "ConsensusEntropy",
    "ConsensusKL",
    "Default",
    "Discriminative",
    "Entropy",
    "ExpectedGradientLength",
    "Factor",
    "FarthestFromLabeled",
    "FilterThenDiversify",
    "InformationDensity",
    "InvalidSpec",
    "KCenterGreedy",
    "KMeans",
    "KMeansPlusPlus",
    "LeastConfidence",
    "LocalisationStability",
    "Margin",
    "MaxHerding",
    "MeanStandardDeviation",
    "MissingNeed",
    "Mixture",
    "Need",
    "Novelty",
    "ObjectDiversity",
    "Objective",
    "Pool",
    "PowerAcquisition",
    "PowerBald",
    "ProbCover",
    "Product",
    "Quotas",
    "Random",
    "RankedBatch",
    "Ranking",
    "Ratio",
    "RegionImpurity",
    "Regions",
    "Representative",
    "ScoredStrategy",
    "Strategy",
    "TypiClust",
    "UncertaintyHerding",
    "Units",
    "UnknownClusters",
    "Validation",
    "VariationRatio",
    "Verification",
    "VerificationThreshold",
    "VoteEntropy",
    "WithoutNearDuplicates",
    "strategy",
    "strategy_names",
]
