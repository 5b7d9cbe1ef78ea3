"""TypiClust, ProbCover, MaxHerding and CLUE choose as scikit-activeml's; typicality is not lightly-mundig's."""

import numpy as np
import pytest
from lightly_mundig import Typicality
from skactiveml.classifier import ParzenWindowClassifier
from skactiveml.pool import Clue as ScikitClue
from skactiveml.pool import MaxHerding as ScikitMaxHerding
from skactiveml.pool import ProbCover as ScikitProbCover
from skactiveml.pool import TypiClust as ScikitTypiClust

from strategies import Clue, MaxHerding, Pool, ProbCover, Ranking, Strategy, TypiClust
from strategies.coverage import _pure_square
from strategies.distances import Space


def clouds(*sizes: int, seed: int = 0) -> np.ndarray:
    """(sum of sizes, 6) clouds far apart, one after the other: any k-means finds them."""
    rng = np.random.default_rng(seed)
    which = np.repeat(np.arange(len(sizes)), sizes)
    return (100 * np.eye(6)[which] + rng.normal(size=(len(which), 6))).astype(np.float32)


def rank(strategy: Strategy, embeddings: np.ndarray, labeled: list[int], size: int) -> Ranking:
    """Positions in `embeddings` of what is picked of those not labeled, in one batch."""
    free = np.delete(np.arange(len(embeddings)), labeled)
    pool = Pool(len(free), embeddings=embeddings[free], labeled_embeddings=embeddings[labeled])
    ranking = strategy.rank(pool, size, batch_size=size, seed=0)
    return Ranking(free[ranking.indices], ranking.scores, ranking.reasons)


def targets(count: int, labeled: list[int]) -> np.ndarray:
    y = np.full(count, np.nan)
    y[labeled] = np.arange(len(labeled)) % 2
    return y


@pytest.mark.parametrize("labeled", [[], [3], [3, 130]])
def test_typiclust_as_scikit_activeml(labeled: list[int]) -> None:
    points = clouds(80, 60, 40, 30, 15, 10)
    size = 6 - len(labeled)
    ours = rank(TypiClust(), points, labeled, size)
    theirs, utilities = ScikitTypiClust(random_state=0, k=20).query(
        points, targets(len(points), labeled), batch_size=size, return_utilities=True
    )
    assert ours.indices.tolist() == theirs.tolist()
    np.testing.assert_allclose(ours.scores, utilities[np.arange(size), theirs], rtol=1e-6)


def test_a_small_cluster_is_not_typical() -> None:
    """The paper's authors leave clusters of five and fewer out; scikit-activeml labels them before a second typical
    image of a large one."""
    points = clouds(80, 60, 3)
    labeled = [0, 80]
    theirs = ScikitTypiClust(random_state=0).query(points, targets(len(points), labeled))
    assert theirs[0] >= 140
    assert rank(TypiClust(), points, labeled, 1).indices[0] < 140


@pytest.mark.parametrize("neighbours", [1, 20])
def test_typicality_of_lightly_mundig(neighbours: int) -> None:
    """It is the mean of exp(-distance / mean distance) to the neighbours, where the paper's, and ours, is one over
    the mean distance. Of one neighbour both give the same order; of more not, as near ones count more in theirs."""
    points = np.random.default_rng(1).normal(size=(60, 3)).astype(np.float32)
    distances = np.sort(np.linalg.norm(points[:, None] - points, axis=2), axis=1)[:, 1 : neighbours + 1]
    theirs = np.array(Typicality(points.tolist()).calculate_typicality(neighbours))
    np.testing.assert_allclose(theirs, np.exp(-distances / distances.mean()).mean(axis=1), rtol=1e-4)
    papers = 1 / distances.mean(axis=1)
    same_order = (np.diff(theirs[np.argsort(papers)]) >= -1e-6).all()
    assert same_order == (neighbours == 1)
    if neighbours == 20:
        ours = rank(TypiClust(), points, [], 1)
        assert ours.indices[0] == papers.argmax()
        np.testing.assert_allclose(ours.scores[0], papers.max(), rtol=1e-5)


@pytest.mark.filterwarnings("ignore:The maximum purity was -1")  # of one delta it measures none
@pytest.mark.parametrize("labeled", [[], [5, 50, 60]])
def test_prob_cover_as_scikit_activeml(labeled: list[int]) -> None:
    """Each of our picks is one of those with their highest utility: many tie."""
    points = np.random.default_rng(2).normal(size=(150, 2)).astype(np.float32)
    ours = rank(ProbCover(delta=0.5), points, labeled, 12)
    for turn, pick in enumerate(ours.indices):
        known = labeled + ours.indices[:turn].tolist()
        peer = ScikitProbCover(deltas=[0.5], n_classes=2, random_state=0)
        _, utilities = peer.query(points, targets(150, known), return_utilities=True)
        assert utilities[0, pick] == np.nanmax(utilities[0])
        # Theirs is a number of images, of all there are; ours a share of the pool.
        assert ours.scores[turn] * (150 - len(labeled)) == pytest.approx(utilities[0, pick])


def test_delta_as_scikit_activeml() -> None:
    """It tries given distances. Those up to our delta pass its test of purity, and the next one fails."""
    points = clouds(50, 40, 30)
    delta = _pure_square(Space(points), 3, seed=0) ** 0.5
    for largest, passes in ((delta - 1e-3, True), (delta + 1e-1, False)):
        peer = ScikitProbCover(deltas=[0.1, largest], n_classes=3, random_state=0)
        peer.query(points, targets(120, [0]))
        assert (peer.delta_max_ == largest) == passes


@pytest.mark.parametrize("labeled", [[], [5, 50, 60]])
def test_max_herding_as_scikit_activeml(labeled: list[int]) -> None:
    """With the paper's bandwidth; unless told, theirs is the square root of the number of dimensions."""
    points = np.random.default_rng(3).normal(size=(200, 5)).astype(np.float32)
    ours = rank(MaxHerding(), points, labeled, 40)
    theirs, utilities = ScikitMaxHerding(metric_dict={"gamma": 1.0}, random_state=0).query(
        points, targets(200, labeled), batch_size=40, return_utilities=True
    )
    assert ours.indices.tolist() == theirs.tolist()
    np.testing.assert_allclose(ours.scores, utilities[np.arange(40), theirs], atol=1e-6)
    wide = rank(MaxHerding(bandwidth=5**0.5), points, labeled, 40)
    default = ScikitMaxHerding(random_state=0).query(points, targets(200, labeled), batch_size=40)
    assert wide.indices.tolist() == default.tolist()


def test_clue_as_scikit_activeml() -> None:
    """The same picks and distances; theirs come in the order of their clusters, ours by summed uncertainty."""
    points = clouds(30, 50, 20, 40)
    labeled = [0, 40, 85, 110]
    classifier = ParzenWindowClassifier(classes=[0, 1], metric_dict={"gamma": 0.05}, random_state=0)
    y = targets(len(points), labeled)
    theirs, utilities = ScikitClue(method="entropy", random_state=0).query(
        points, y, classifier, batch_size=4, return_utilities=True
    )
    free = np.delete(np.arange(len(points)), labeled)
    probabilities = classifier.fit(points, y).predict_proba(points[free])
    pool = Pool(len(free), committee=probabilities[None], embeddings=points[free])
    ours = Clue().rank(pool, 4, batch_size=4, seed=0)
    assert set(free[ours.indices].tolist()) == set(theirs.tolist())
    distances = {int(i): utilities[b, i] for b, i in enumerate(theirs)}
    np.testing.assert_allclose(ours.scores, [distances[int(i)] for i in free[ours.indices]], rtol=1e-4)
