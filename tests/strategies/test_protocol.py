import numpy as np
import pytest

from strategies import Need, Pool


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
        ({"size": 0, "labeled_embeddings": np.zeros(3)}, r"or \(0, dimensions\)"),
        ({"size": 0, "labeled_embeddings": np.array([[np.nan]])}, "Pool.labeled_embeddings .* image 0"),
        (
            {"size": 1, "embeddings": np.zeros((1, 2)), "labeled_embeddings": np.zeros((1, 3))},
            "embed both with the same model",
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
