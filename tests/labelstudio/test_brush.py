from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from label_studio_sdk.converter.brush import decode_rle, encode_rle, mask2rle
from numpy.typing import NDArray

from backend.labelstudio.brush import decode, encode

masks = st.tuples(st.integers(1, 30), st.integers(1, 30)).flatmap(lambda shape: arrays(np.bool_, shape))


def edges(mask: NDArray[Any]) -> NDArray[np.int64]:
    """Where a mask begins and ends."""
    return np.flatnonzero(np.diff(mask.ravel() > 0, prepend=False, append=False))


@given(masks)
def test_agrees_with_label_studios_own_codec(mask: NDArray[np.bool_]):
    theirs = mask2rle(mask.astype(np.uint8) * 255)
    assert encode(edges(mask), mask.size) == theirs
    assert np.array_equal(decode(theirs, mask.size), edges(mask))


@given(arrays(np.uint8, st.integers(1, 200).map(lambda pixels: 4 * pixels), elements=st.integers(0, 3)))
def test_any_picture_is_read_by_its_opacity(values: NDArray[np.uint8]):
    """Label Studio's editor leaves the edge of a stroke half transparent."""
    rle = encode_rle(values)
    opacity = decode_rle(rle).reshape(-1, 4)[:, 3]
    assert np.array_equal(decode(rle, len(opacity)), edges(opacity))


@pytest.mark.parametrize("pixels", [1, 2, 3, 4, 5, 63, 64, 65, 16384, 16385, 40000])
def test_every_size_of_run(pixels: int):
    for mask in (np.ones(pixels, np.uint8), np.zeros(pixels, np.uint8)):
        rle = encode(edges(mask), pixels)
        assert rle == encode_rle(np.repeat(mask * 255, 4))
        assert np.array_equal(decode(rle, pixels), edges(mask))


def packed(*fields: tuple[int, int]) -> list[int]:
    """Numbers in so many bits each, as bytes."""
    bits = "".join(f"{value:0{width}b}" for value, width in fields)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


def test_values_that_are_not_repeated_come_in_blocks():
    header = [(12, 32), (7, 5), (2, 4), (3, 4), (7, 4), (15, 4)]
    values = [0, 0, 0, 0, 9, 9, 9, 9, 0, 0, 0, 1]
    rle = packed(*header, (0, 1), (1, 2), (11, 4), *[(value, 8) for value in values])
    assert decode_rle(rle).tolist() == values
    assert decode(rle, 3).tolist() == [1, 3]


@pytest.mark.parametrize(
    ("rle", "says"),
    [
        ([], "without a beginning"),
        ([0, 0, 0, 4], "without a beginning"),
        (mask2rle(np.ones((2, 3), np.uint8)), "of 24 values of 8 bits, not of 20"),
        (mask2rle(np.ones((2, 2), np.uint8)), "of 16 values of 8 bits, not of 20"),
        (packed((20, 32), (31, 5), *[(15, 4)] * 4), "of 32 bits"),
        (mask2rle(np.eye(5, dtype=np.uint8)[:1])[:9], "too early"),
        (
            packed((20, 32), (7, 5), (2, 4), (3, 4), (7, 4), (15, 4), (1, 1), (3, 2), (99, 16), (1, 8)),
            "too long",
        ),
        ([256], "range"),
        ([-1], "range"),
        (["1"], "from 0 to 255"),
        ([1.5], "from 0 to 255"),
        ([None], "from 0 to 255"),
    ],
)
def test_broken_run_lengths(rle: list[Any], says: str):
    with pytest.raises(ValueError, match=says):
        decode(rle, 5)


@given(st.lists(st.integers(0, 255), max_size=60), st.integers(1, 20))
def test_any_bytes_are_read_or_refused(noise: list[int], pixels: int):
    try:
        positions = decode(packed((4 * pixels, 32), (7, 5)) + noise, pixels)
    except ValueError:
        return
    assert len(positions) % 2 == 0
    assert (np.diff(positions) > 0).all() and all(0 <= place <= pixels for place in positions)
