"""Regions by the classes and the doubts of their pixels, worked out by hand."""

from math import log

import numpy as np
import pytest

from strategies import Entropy, Need, Pool, RegionImpurity, Regions, Units, strategy

SURE, TORN, OTHER = [1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]
CLASSES = ("road", "car", "tree")


def regions(*pixels: list[list[float]]) -> Pool:
    """A pool of regions, each with the class probabilities of its pixels."""
    owners = np.repeat(np.arange(len(pixels)), [len(own) for own in pixels])
    committee = np.array([p for own in pixels for p in own], dtype=float).reshape(1, -1, 3)
    return Pool(
        len(pixels), units=Units(Pool(committee.shape[1], committee=committee, classes=CLASSES), owners)
    )


def test_impurity_times_uncertainty() -> None:
    scores = RegionImpurity().scores(
        regions(
            [SURE, SURE, SURE, OTHER],  # a border, but a sure one
            [TORN, TORN, TORN, TORN],  # uncertain, but all of one class
            [TORN, TORN, OTHER, OTHER],  # half and half, of which half are torn
            [TORN, OTHER, SURE, SURE],  # a torn pixel is taken for the first class
        )
    )
    quarter = -(log(0.25) * 0.25 + log(0.75) * 0.75)
    np.testing.assert_allclose(scores, [0, 0, log(2) * log(2) / 2, quarter * log(2) / 4], atol=1e-7)


def test_images_by_the_most_informative_of_their_cells() -> None:
    cells = regions([SURE, OTHER], [TORN, OTHER], [TORN, TORN], [TORN, TORN], [TORN, OTHER], [TORN, OTHER])
    images = Pool(4, units=Units(cells, np.array([0, 0, 1, 1, 2, 2])))
    half = log(2) * log(2) / 2
    by_the_best = strategy("{regions: {score: region_impurity, reduction: max}}")
    by_the_mean = strategy("{regions: {score: region_impurity, reduction: mean}}")
    assert isinstance(by_the_best, Regions) and isinstance(by_the_mean, Regions)
    np.testing.assert_allclose(by_the_best.scores(images), [half, 0, half, half], atol=1e-7)
    np.testing.assert_allclose(by_the_mean.scores(images), [half / 2, 0, half, half / 2], atol=1e-7)
    ranking = by_the_mean.rank(images, 1, batch_size=1, seed=0)
    assert ranking.indices.tolist() == [2]
    assert ranking.reasons == (
        '"road" and "tree" side by side, with 0.35 nats of doubt a pixel, the most informative of its 2 regions',
    )


def test_regions_in_regions_are_the_mean_pixel_entropy() -> None:
    cells = regions([SURE, TORN], [TORN, TORN], [SURE, SURE], [OTHER, TORN])
    images = Pool(2, units=Units(cells, np.array([1, 0, 1, 0])))
    mean = Regions(Regions(Entropy(), "mean"), "mean")
    np.testing.assert_allclose(mean.scores(images), [0.75 * log(2), 0.25 * log(2)], atol=1e-7)
    assert mean.reason(images, 0).startswith('undecided: "road" (50%), "car" (50%)')
    # Taken out and turned round, all the way down.
    np.testing.assert_allclose(mean.scores(images.take(np.array([1, 0]))), mean.scores(images)[::-1])
    np.testing.assert_allclose(
        mean.scores(images.take(np.array([1, 1, 0]))), mean.scores(images)[[1, 1, 0]], atol=0
    )


def test_many_regions_as_one_by_one_in_any_order() -> None:
    rng = np.random.default_rng(0)
    owners = rng.integers(30, size=400)
    pixels = Pool(400, committee=rng.dirichlet(np.ones(4), size=(3, 400)))
    pool = Pool(32, units=Units(pixels, owners))  # the last two have no pixels
    scores = RegionImpurity().scores(pool)
    for region in range(30):
        p = pixels.probabilities[owners == region]
        shares = np.bincount(p.argmax(axis=1), minlength=4) / len(p)
        impurity = -sum(share * log(share) for share in shares if share)
        assert scores[region] == pytest.approx(impurity * -(p * np.log(p)).sum(axis=1).mean())
    assert scores[30:].tolist() == [0, 0]
    order = rng.permutation(32)
    assert RegionImpurity().scores(pool.take(order)).tolist() == scores[order].tolist()


def test_odd_regions() -> None:
    assert RegionImpurity().scores(regions([SURE], [], [TORN])).tolist() == [0, 0, 0]
    assert RegionImpurity().scores(regions([], [])).tolist() == [0, 0]
    assert RegionImpurity().scores(regions()).tolist() == []
    assert RegionImpurity().reason(regions([], [TORN]), 0) == "it has no pixels"
    assert (
        RegionImpurity().reason(regions([], [TORN]), 1)
        == '"road" throughout, with 0.69 nats of doubt a pixel'
    )
    one_class = Pool(2, units=Units(Pool(4, committee=np.ones((1, 4, 1))), np.array([0, 0, 1, 1])))
    assert RegionImpurity().scores(one_class).tolist() == [0, 0]


def test_needs_pixels() -> None:
    assert RegionImpurity().needs == {Need.UNITS}
    with pytest.raises(ValueError, match="This strategy needs units"):
        RegionImpurity().scores(Pool(3))
    with pytest.raises(ValueError, match="This strategy needs committee"):
        RegionImpurity().scores(Pool(1, units=Units(Pool(2), np.array([0, 0]))))
