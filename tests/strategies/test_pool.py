import numpy as np
import pytest

from strategies import Need, Pool, Units, Validation


def test_probabilities_are_the_mean_of_the_committee() -> None:
    pool = Pool(1, committee=np.array([[[0.2, 0.8]], [[0.6, 0.4]]], dtype=np.float32))
    np.testing.assert_allclose(pool.probabilities, [[0.4, 0.6]], atol=1e-7)


def test_other_float_types_are_converted() -> None:
    pool = Pool(2, embeddings=np.eye(2), labeled_embeddings=np.empty((0, 2)))
    assert pool.embeddings is not None and pool.embeddings.dtype == np.float32


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": -1}, "Pool.size is -1"),
        ({"size": 2, "committee": np.full((2, 2), 0.5)}, r"pass \(members, 2, classes\)"),
        ({"size": 2, "committee": np.full((1, 3, 2), 0.5)}, r"pass \(members, 2, classes\)"),
        ({"size": 2, "committee": np.empty((0, 2, 2))}, "at least one member"),
        ({"size": 1, "committee": np.full((1, 1, 2), 0.5), "classes": ("a",)}, "1 names for 2 classes"),
        ({"size": 1, "committee": np.array([[[3.0, -2.0]]])}, "not logits"),
        ({"size": 1, "committee": np.array([[[0.9, 0.8]]])}, "multi_label=True"),
        ({"size": 2, "committee": np.array([[[1.0, 0], [np.nan, 1]]])}, "Pool.committee .* first in image 1"),
        ({"size": 2, "embeddings": np.zeros((3, 2))}, r"pass \(2, dimensions\)"),
        ({"size": 2, "embeddings": np.array([[0.0], [np.inf]])}, "Pool.embeddings .* first in image 1"),
        ({"size": 0, "labeled_embeddings": np.zeros(3)}, r"pass one row for each image"),
        ({"size": 0, "labeled_embeddings": np.array([[np.nan]])}, "Pool.labeled_embeddings .* image 0"),
        (
            {"size": 1, "embeddings": np.zeros((1, 2)), "labeled_embeddings": np.zeros((1, 3))},
            "compute both with the same model",
        ),
        ({"size": 2, "features": np.zeros((1, 2))}, r"Pool.features .* pass \(2, dimensions\)"),
        (
            {"size": 1, "committee": np.full((1, 1, 2), 0.5), "labeled_targets": np.ones((1, 3))},
            "Pool.labeled_targets has 3 classes and Pool.committee 2",
        ),
        (
            {
                "size": 1,
                "features": np.zeros((1, 2)),
                "validation": Validation(np.zeros((4, 3)), np.ones(4, dtype=bool)),
            },
            "Pool.validation.features has 3 dimensions and Pool.features 2",
        ),
        ({"size": 1, "units": Units(Pool(2), np.array([0, 1]))}, "position of its image, 0 to 0"),
        (
            {"size": 2, "groups": {"weather": np.array(["rain"])}},
            r"Pool.groups\['weather'\] has shape \(1,\)",
        ),
    ],
)
def test_a_bad_pool_says_which_field_and_what_to_do(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pool(**fields)


def test_a_need_that_the_pool_was_made_without() -> None:
    with pytest.raises(ValueError, match=r"needs probabilities: make the pool with Pool\(committee=…\)"):
        Pool(1).require(Need.PROBABILITIES)


def test_take_keeps_rows_together() -> None:
    committee = np.array([[[1, 0], [0, 1], [0.5, 0.5]]])
    pool = Pool(
        3, committee=committee, embeddings=np.arange(6).reshape(3, 2), labeled_embeddings=np.zeros((1, 2))
    )
    part = pool.take(np.array([2, 0]), labeled_embeddings=np.ones((2, 2), dtype=np.float32))
    assert part.size == 2
    np.testing.assert_array_equal(part.require(Need.COMMITTEE), [[[0.5, 0.5], [1, 0]]])
    np.testing.assert_array_equal(part.require(Need.EMBEDDINGS), [[4, 5], [0, 1]])
    np.testing.assert_array_equal(part.require(Need.LABELED_EMBEDDINGS), np.ones((2, 2)))
    np.testing.assert_array_equal(pool.take(np.array([1])).require(Need.LABELED_EMBEDDINGS), np.zeros((1, 2)))


def test_validation_is_one_verdict_an_image() -> None:
    with pytest.raises(ValueError, match=r"correct has shape \(2,\); pass \(3,\)"):
        Validation(np.zeros((3, 2)), np.ones(2, dtype=bool))


def test_take_keeps_the_units_and_groups_of_its_images() -> None:
    units = Units(Pool(4, embeddings=np.arange(4.0)[:, None]), np.array([2, 0, 1, 2]))
    pool = Pool(3, units=units, groups={"hour": np.array(["1", "2", "3"])})
    part = pool.take(np.array([2, 1]))
    assert part.group("hour").tolist() == ["3", "2"]
    assert part.require_units().owners.tolist() == [0, 0, 1]
    assert part.require_units().pool.require(Need.EMBEDDINGS)[:, 0].tolist() == [0, 3, 2]


def test_a_metadata_field_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"'weather', which the images do not have. There are: camera, hour"):
        Pool(0, groups={"hour": np.empty(0, str), "camera": np.empty(0, str)}).group("weather")
