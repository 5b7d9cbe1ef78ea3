"""Scores of images from those of their units, worked out by hand."""

from dataclasses import dataclass

import numpy as np
import pytest

from strategies import InvalidSpec, LeastConfidence, Margin, Need, Pool, Regions, Units, strategy

OWNERS = np.array([2, 0, 2, 0, 2, 2])  # images 1 and 3 have none
UNCERTAINTY = np.array([0.1, 0.4, 0.3, 0.2, 0.3, 0.05])  # of each unit, by least confidence


def pool(owners: np.ndarray = OWNERS, uncertainty: np.ndarray = UNCERTAINTY, size: int = 4) -> Pool:
    p = np.stack([1 - uncertainty, uncertainty], axis=1)
    return Pool(size, units=Units(Pool(len(p), committee=p[None], classes=("cat", "dog")), owners))


@pytest.mark.parametrize(
    ("spec", "first", "third"),
    [
        ("max", 0.4, 0.3),
        ("mean", 0.3, 0.1875),
        ("sum", 0.6, 0.75),
        ("top_k_mean", 0.3, 0.7 / 3),
    ],
)
def test_reductions(spec: str, first: float, third: float) -> None:
    made = strategy({"regions": {"score": "least_confidence", "reduction": spec}})
    assert isinstance(made, Regions)
    median = (first + third) / 2
    np.testing.assert_allclose(made.scores(pool()), [first, median, third, median], atol=1e-7)


@pytest.mark.parametrize(("top_k", "third"), [(1, 0.3), (2, 0.3), (4, 0.1875), (9, 0.1875)])
def test_top_k(top_k: int, third: float) -> None:
    scores = Regions(LeastConfidence(), "top_k_mean", top_k).scores(pool())
    np.testing.assert_allclose(scores[2], third, atol=1e-7)


@pytest.mark.parametrize(("without_units", "ranked"), [("last", [0, 2]), ("first", [1, 3]), ("median", [0])])
def test_the_place_of_images_without_units(without_units: str, ranked: list[int]) -> None:
    made = strategy({"regions": {"score": "least_confidence", "without_units": without_units}})
    indices = made.rank(pool(), 4, batch_size=1, seed=0).indices.tolist()
    assert sorted(indices[: len(ranked)]) == ranked
    assert sorted(indices) == [0, 1, 2, 3]
    if without_units == "median":
        assert indices[-1] == 2


def test_without_any_unit_all_images_are_alike() -> None:
    nothing = pool(np.empty(0, np.int64), np.empty(0))
    ranking = Regions().rank(nothing, 4, batch_size=1, seed=0)
    assert ranking.scores.tolist() == [0] * 4
    assert set(ranking.reasons) == {"nothing is found in it, or all in it is missed"}


def test_the_reason_is_that_of_the_most_informative_unit() -> None:
    made = Regions(Margin())
    assert made.reason(pool(), 0) == (
        'between "cat" (60%) and "dog" (40%), the most informative of its 2 regions'
    )
    assert made.reason(pool(np.array([1]), np.array([0.3])), 1) == (
        'between "cat" (70%) and "dog" (30%), its only region'
    )


def test_many_units_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    owners, uncertainty = rng.integers(50, size=400), rng.uniform(0, 0.5, size=400)
    many = pool(owners, uncertainty, size=60)  # the last ten have none
    of_image = [np.sort(1 - (1 - uncertainty[owners == i]))[::-1] for i in range(50)]
    for reduction, one in {
        "max": np.max,
        "mean": np.mean,
        "sum": np.sum,
        "top_k_mean": lambda scores: np.mean(scores[:3]),
    }.items():
        made = strategy({"regions": {"score": "least_confidence", "reduction": reduction}})
        assert isinstance(made, Regions)
        np.testing.assert_allclose(made.scores(many)[:50], [one(scores) for scores in of_image], atol=1e-7)


@dataclass(frozen=True)
class Negative(LeastConfidence):
    """Scores may be negative."""

    def scores(self, pool: Pool) -> np.ndarray:
        return super().scores(pool) - 1


@pytest.mark.parametrize(("without_units", "place"), [("last", -1), ("first", 0)])
def test_last_is_last_and_first_is_first_whatever_the_scale(without_units: str, place: int) -> None:
    made = Regions(Negative(), "sum", without_units="first" if without_units == "first" else "last")
    assert made.rank(pool(), 4, batch_size=1, seed=0).indices[place] in (1, 3)


def test_needs_units() -> None:
    assert Regions().needs == {Need.UNITS}
    with pytest.raises(ValueError, match="This strategy needs units"):
        Regions().scores(Pool(3))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{regions: {top_k: 0}}", "top_k is 0; take the mean over 1 unit or more"),
        (
            "{regions: {reduction: min}}",
            "regions.reduction is 'min'; write one of: max, mean, sum, top_k_mean",
        ),
        ("{regions: k_center_greedy}", "k_center_greedy does not score each image by itself"),
    ],
)
def test_a_bad_spec(spec: str, message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        strategy(spec)
