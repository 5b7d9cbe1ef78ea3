"""Strategies for the objects in images, worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies import (
    Bald,
    LocalisationStability,
    Margin,
    Need,
    ObjectDiversity,
    Pool,
    Product,
    Regions,
    Units,
)


def on_a_line(owners: list[int], places: list[float], size: int, labeled: list[float] | None = None) -> Pool:
    """Images with objects whose embeddings are numbers."""
    objects = Pool(
        len(places),
        embeddings=np.array(places).reshape(-1, 1),
        labeled_embeddings=None if labeled is None else np.array(labeled).reshape(-1, 1),
    )
    return Pool(size, units=Units(objects, np.array(owners, dtype=np.int64)))


def test_boxes_that_move_between_members() -> None:
    committee = np.array([[[0.8, 0.1], [0.2, 0.9], [0.1, 0.1]], [[0.6, 0.1], [0.4, 0.9], [0.1, 0.3]]])
    boxes = Pool(
        3, committee=committee, localisation=np.array([0.5, 1, 0]), multi_label=True, classes=("cat", "dog")
    )
    np.testing.assert_allclose(LocalisationStability().scores(boxes), [0.7 * 0.5, 0, 0.2 * 1], atol=1e-7)
    assert LocalisationStability().reason(boxes, 0) == (
        'the boxes that the members draw around "cat" overlap by 50% only'
    )
    images = Pool(2, units=Units(boxes, np.array([1, 1, 0])))
    made = Regions(LocalisationStability(), "mean")
    np.testing.assert_allclose(made.scores(images), [0.2, 0.35 / 2], atol=1e-7)


@pytest.mark.parametrize("missing", ["localisation", "committee"])
def test_what_localisation_stability_needs(missing: str) -> None:
    boxes = Pool(1, committee=np.ones((1, 1, 1)), localisation=np.ones(1), multi_label=True)
    with pytest.raises(ValueError, match="This strategy needs"):
        LocalisationStability().scores(replace(boxes, **{missing: None}))


def test_mutual_information_per_box_and_class() -> None:
    """Of independent classes it is the mean over the classes of H(mean) - mean H (arXiv 2004.04699)."""
    committee = np.array([[[0.9, 0.5], [0.5, 0.5]], [[0.1, 0.5], [0.5, 0.5]]])
    boxes = Pool(2, committee=committee, multi_label=True)
    sure = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    # The members contradict each other in the first class of the first box, and elsewhere both only doubt.
    expected = (np.log(2) - sure) / 2
    images = Pool(3, units=Units(boxes, np.array([2, 0])))
    np.testing.assert_allclose(Regions(Bald()).scores(images), [0, expected / 2, expected], atol=1e-7)


def test_the_mean_over_objects_of_the_distance_to_the_nearest_known() -> None:
    #  labeled 0 and 10. image 0: objects 1 and 5, mean (1 + 5) / 2; image 1: 4, 4; image 2: 12, 2; image 3: 4.5, 4.5
    pool = on_a_line([0, 0, 1, 2, 3], [1, 5, 4, 12, 4.5], 4, labeled=[0, 10])
    ranking = ObjectDiversity().rank(pool, 4, batch_size=1, seed=0)
    # 4.5 first; then objects 1 and 5 are worth (1 + 0.5) / 2, 4 is worth 0.5, and 12 still 2; then those that 12 left.
    assert ranking.indices.tolist() == [3, 2, 0, 1]
    np.testing.assert_allclose(ranking.scores, [4.5, 2, 0.75, 0.5])
    assert (
        ranking.reasons[0] == "its object is unlike all objects labeled or chosen before (mean distance 4.5)"
    )
    assert ranking.reasons[2].startswith("its 2 objects are unlike")


def test_images_without_objects_are_looked_at_less_and_less() -> None:
    pool = on_a_line([0, 1, 2], [1, 2, 6], 5, labeled=[0])
    ranking = ObjectDiversity().rank(pool, 5, batch_size=1, seed=0)
    # The median of 1, 2 and 6 is 2; a second one is worth half of it. After 6, image 1 is still worth 2.
    np.testing.assert_allclose(ranking.scores, [6, 2, 2, 1, 1])
    assert {3, 4} < set(ranking.indices.tolist())
    first_empty = next(i for i, index in enumerate(ranking.indices) if index in (3, 4))
    assert ranking.reasons[first_empty] == "nothing is found in it, or all in it is missed"


@pytest.mark.parametrize("labeled", [None, []])
def test_nothing_labeled(labeled: list[float] | None) -> None:
    pool = on_a_line([0, 1, 1, 2], [0, 1, 3, 9], 3, labeled)
    ranking = ObjectDiversity().rank(pool, 3, batch_size=1, seed=0)
    assert sorted(ranking.indices.tolist()) == [0, 1, 2]
    assert ranking.reasons[0] == "no object labeled yet to be unlike"
    assert np.isfinite(ranking.scores).all()


def test_no_object_at_all() -> None:
    ranking = ObjectDiversity().rank(on_a_line([], [], 3), 3, batch_size=1, seed=0)
    assert sorted(ranking.indices.tolist()) == [0, 1, 2]
    np.testing.assert_allclose(ranking.scores, [1, 1 / 2, 1 / 3])


def test_objects_without_embeddings() -> None:
    pool = Pool(1, units=Units(Pool(1, committee=np.ones((1, 1, 1))), np.array([0])))
    with pytest.raises(ValueError, match="This strategy needs embeddings"):
        ObjectDiversity().rank(pool, 1, batch_size=1, seed=0)
    assert ObjectDiversity().needs == {Need.UNITS, Need.LABELED_UNITS}


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 120), st.integers(0, 10**6), st.integers(1, 20), st.booleans())
def test_the_same_picks_as_every_image_for_every_pick(
    size: int, seed: int, labeled: int, weighted: bool
) -> None:
    rng = np.random.default_rng(seed)
    units = int(rng.integers(0, 4 * size))
    objects = rng.normal(size=(units, 3)).astype(np.float32)
    known = rng.normal(size=(labeled, 3)).astype(np.float32)
    owners = rng.integers(size, size=units)
    doubt = rng.uniform(0.05, 0.5, size=size)
    pool = Pool(
        size,
        committee=np.stack([1 - doubt, doubt], axis=1)[None],
        units=Units(Pool(units, embeddings=objects, labeled_embeddings=known), owners),
    )
    picks = min(size, 25)
    ranking = (
        Product((Margin(), ObjectDiversity())).rank(pool, picks, batch_size=5, seed=0)
        if weighted
        else ObjectDiversity().rank(pool, picks, batch_size=5, seed=0)
    )

    doubt_of = Margin().scores(pool) if weighted else np.ones(size)
    left = list(range(size))
    filled = np.bincount(owners, minlength=size) > 0
    centers, empty = list(known.astype(float)), 0
    start = worth_of(objects, owners, size, centers)
    median = float(np.median(start[filled])) if filled.any() else 1.0
    for pick in ranking.indices:
        worth = np.where(filled, worth_of(objects, owners, size, centers), median / (1 + empty)) * doubt_of
        assert worth[pick] >= worth[left].max() - 1e-6  # what is as good to six digits is
        left.remove(int(pick))
        centers += list(objects[owners == pick].astype(float))
        empty += not filled[pick]


def worth_of(objects: np.ndarray, owners: np.ndarray, size: int, centers: list[np.ndarray]) -> np.ndarray:
    distances = np.linalg.norm(objects[:, None].astype(float) - np.array(centers), axis=2).min(
        axis=1, initial=np.inf
    )
    counts = np.bincount(owners, minlength=size)
    return np.bincount(owners, weights=distances, minlength=size) / np.maximum(counts, 1)
