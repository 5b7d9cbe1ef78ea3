"""Label Studio's run lengths of a brush mask.

A stream of bits. First the number of values (32 bits), the bits of a value less one (5), and the bits of a length less
one, in four sizes (4 each). Then, until all values are told: 1, a size (2), a length less one, and the value that is
repeated so often; or 0, a size, a length less one, and so many values. The values are the channels of an RGBA image,
row by row. All four of a pixel are its opacity; what is not wholly transparent is of the mask.

Label Studio's own codec: https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

CHANNELS = 4
VALUE_BITS = 8
LENGTH_BITS = (3, 4, 8, 16)
HEADER_BITS = 32 + 5 + 4 * len(LENGTH_BITS)
WINDOW = (
    64  # bits that are looked at in one step; the longest token has 27 of them, and may start at any of 8
)


def decode(rle: Sequence[int], pixels: int) -> NDArray[np.int64]:
    """Where a mask of so many pixels begins and ends, in turns, row by row: an even number of ascending positions.

    Raises ValueError for anything but the run lengths of so many pixels.
    """
    try:
        data = bytes(rle)
    except (TypeError, OverflowError):
        raise ValueError("run lengths must be numbers from 0 to 255") from None
    lengths, values = _read(data, CHANNELS * pixels)
    ends = np.cumsum(lengths, dtype=np.int64) // CHANNELS  # the opacity of a pixel is its last channel
    kept = np.diff(ends, prepend=0) > 0
    ends, inside = ends[kept], np.array(values)[kept] > 0
    turns = np.diff(inside, prepend=False, append=False)
    edges: NDArray[np.int64] = np.concatenate(([0], ends))[turns]
    return edges


def encode(edges: NDArray[np.int64], pixels: int) -> list[int]:
    """The run lengths of a mask of so many pixels, from where it begins and ends, as `decode` gives it."""
    lengths = CHANNELS * np.diff(edges, prepend=0, append=pixels)
    there = lengths > 0
    values, lengths = (np.arange(len(lengths)) % 2 * 255)[there], lengths[there]

    longest = 2 ** LENGTH_BITS[-1]
    parts = -(-lengths // longest)
    pieces = np.full(parts.sum(), longest)
    pieces[np.cumsum(parts) - 1] = lengths - (parts - 1) * longest
    # The last piece of a long run has the size of the whole, as from Label Studio's own encoder.
    size = np.repeat(np.searchsorted([2**bits for bits in LENGTH_BITS[:-1]], lengths), parts)
    bits = np.array(LENGTH_BITS)[size]
    tokens = ((((0b100 | size) << bits) | (pieces - 1)) << VALUE_BITS) | np.repeat(values, parts)

    header = CHANNELS * pixels << 5 | VALUE_BITS - 1
    for each in LENGTH_BITS:
        header = header << 4 | each - 1
    stream = np.concatenate(
        (
            _bits(np.array([header]), np.array([HEADER_BITS])),
            _bits(tokens, 3 + bits + VALUE_BITS),
            np.zeros(1, np.uint8),
        )
    )
    packed: list[int] = np.packbits(stream).tolist()
    return packed


def _bits(tokens: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The lowest bits of each token, as many as its length, the highest of them first."""
    aligned = (tokens << (WINDOW - 1 - lengths)).astype(">i8")  # the sign is not used
    bits = np.unpackbits(aligned.view(np.uint8).reshape(-1, 8), axis=1)[:, 1:]
    chosen: NDArray[np.uint8] = bits[np.arange(WINDOW - 1) < lengths[:, None]]
    return chosen


def _read(data: bytes, expected: int) -> tuple[list[int], list[int]]:
    """The lengths of all runs and their values. Raises ValueError unless these are as many values as expected."""
    end = 8 * len(data)
    if end < HEADER_BITS:
        raise ValueError("run lengths without a beginning")
    header = int.from_bytes(data[:7], "big") >> 56 - HEADER_BITS
    count, value_bits = header >> 21, (header >> 16 & 31) + 1
    size_bits = [(header >> shift & 15) + 1 for shift in (12, 8, 4, 0)]
    if count != expected or value_bits != VALUE_BITS:
        raise ValueError(f"run lengths of {count} values of {value_bits} bits, not of {expected}")
    data += bytes(8)
    lengths: list[int] = []
    values: list[int] = []
    place, told = HEADER_BITS, 0
    while told < count:
        window = int.from_bytes(data[place >> 3 : (place >> 3) + 8], "big") << (place & 7)
        bits = size_bits[window >> 61 & 3]
        length = (window >> 61 - bits & (1 << bits) - 1) + 1
        place += 3 + bits
        if window >> 63 & 1:
            lengths.append(length)
            values.append(window >> 61 - bits - VALUE_BITS & 255)
            place += VALUE_BITS
        else:
            first, shift = place >> 3, 8 - (place & 7)
            block = data[first : first + length + 1]
            lengths += [1] * length
            values += [(one << 8 | two) >> shift & 255 for one, two in pairwise(block)]
            place += VALUE_BITS * length
        told += length
        if place > end:
            raise ValueError("run lengths that end too early")
    if told > count:
        raise ValueError("run lengths that go on for too long")
    return lengths, values
