"""k-center greedy beside the implementations of scikit-activeml, small-text and Lightly."""

import numpy as np
import pytest
from lightly_mundig import Selection
from skactiveml.pool import CoreSet
from small_text.query_strategies.coresets import greedy_coreset

from strategies import KCenterGreedy, Pool
from strategies.pool import Floats, Indices

LABELED, PICKS = 20, 150


def points(kind: str) -> Floats:
    """2,000 embeddings, the first 20 of which are labeled."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2000, 24))
    if kind != "one cloud":
        rows = 0.3 * rows + rng.normal(size=(15, 24))[rng.integers(15, size=2000)]
    if kind == "near-duplicates of unit length":
        rows = rows[rng.integers(300, size=2000)] + 1e-3 * rng.normal(size=(2000, 24))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32)


every_kind = pytest.mark.parametrize("kind", ["one cloud", "clusters", "near-duplicates of unit length"])


def ours(rows: Floats) -> Indices:
    """Positions among all rows."""
    pool = Pool(len(rows) - LABELED, embeddings=rows[LABELED:], labeled_embeddings=rows[:LABELED])
    return KCenterGreedy().rank(pool, PICKS, batch_size=PICKS, seed=0).indices + LABELED


def largest_radius(rows: Floats, picks: Indices) -> float:
    """How far the worst served image is from all that is labeled or picked."""
    centers = np.append(np.arange(LABELED), picks)
    squares = ((rows[:, None].astype(np.float64) - rows[None, centers]) ** 2).sum(axis=2)
    return float(np.sqrt(squares.min(axis=1).max()))


@every_kind
def test_the_picks_of_scikit_activeml(kind: str) -> None:
    rows = points(kind)
    labels = np.full(len(rows), np.nan)
    labels[:LABELED] = 0
    theirs, utilities = CoreSet(random_state=0).query(
        rows.astype(np.float64), labels, batch_size=PICKS, return_utilities=True
    )
    assert ours(rows).tolist() == theirs.tolist()
    pool = Pool(len(rows) - LABELED, embeddings=rows[LABELED:], labeled_embeddings=rows[:LABELED])
    scores = KCenterGreedy().rank(pool, PICKS, batch_size=PICKS, seed=0).scores
    np.testing.assert_allclose(scores, np.nanmax(utilities, axis=1), atol=1e-6)


@every_kind
def test_the_picks_of_small_text(kind: str) -> None:
    """Its picks are positions among the unlabeled, which it then takes for positions among all (`indices_s`). So what
    it measures distances to after the first pick is the picks' namesakes, unless the unlabeled come first."""
    rows = points(kind)
    unlabeled_first = np.roll(rows, -LABELED, axis=0)
    unlabeled, labeled = np.split(np.arange(len(rows)), [len(rows) - LABELED])
    theirs = greedy_coreset(
        unlabeled_first.astype(np.float64), unlabeled, labeled, PICKS, distance_metric="euclidean"
    )
    assert ours(rows).tolist() == (theirs + LABELED).tolist()


def test_small_text_takes_other_picks_where_the_labeled_come_first() -> None:
    rows = points("clusters")
    labeled, unlabeled = np.split(np.arange(len(rows)), [LABELED])
    theirs = greedy_coreset(rows.astype(np.float64), unlabeled, labeled, PICKS, distance_metric="euclidean")
    assert ours(rows)[0] == theirs[0] + LABELED
    assert largest_radius(rows, theirs + LABELED) > 1.02 * largest_radius(rows, ours(rows))


@every_kind
def test_the_picks_of_lightly_but_for_its_single_precision(kind: str) -> None:
    """Mundig sums squares in single precision, so where two images are about as far, it may take the other one."""
    rows = points(kind)
    selection = Selection()
    selection.add_diversifying_strategy(rows, 1.0)
    theirs = np.array(selection.run_selection(list(range(LABELED)), len(rows), LABELED + PICKS))[LABELED:]
    mine = ours(rows)
    assert len(np.intersect1d(mine, theirs)) >= 0.95 * PICKS
    assert largest_radius(rows, mine) == pytest.approx(largest_radius(rows, theirs), rel=0.02)
