"""Reads the points of the embedding map, by the layout that backend/dashboard/map_points.py describes."""

import json
import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Read(NamedTuple):
    """The points by columns, and what is told of them."""

    kind_names: list[str]
    counts: list[int]
    class_names: list[str]
    ids: NDArray[np.uint32]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    kinds: NDArray[np.uint8]
    uncertainty: NDArray[np.uint8]
    classes: NDArray[np.uint8]


def read_points(content: bytes) -> Read:
    """Fails where anything is left over or lacking."""
    magic, count, length = struct.unpack_from("<4sII", content)
    assert magic == b"ALM1"
    assert length % 4 == 0
    at = 12 + length
    description = json.loads(content[12:at])
    columns = []
    for kind in ("<u4", "<f4", "<f4", "u1", "u1", "u1"):
        columns.append(np.frombuffer(content, kind, count, at))
        at += columns[-1].nbytes
    assert at == len(content)
    return Read(description["kinds"], description["counts"], description["classes"], *columns)
