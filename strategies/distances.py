"""Euclidean distances in blocks, on the GPU where there is one: never an N×N matrix.

A squared distance is |a|² + |b|² − 2ab, in double precision and relative to the pool's mean, so that what
cancels is small.
"""

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from strategies.pool import Floats

BLOCK = 2048  # rows; with 384 dimensions 6 MB, which stays in a processor's cache


class Rows(NamedTuple):
    """Points ready for distances. values: (k, dimensions), doubles; norms: (k,), their squared lengths."""

    values: Tensor
    norms: Tensor

    def at(self, index: Tensor | slice) -> "Rows":
        """Some of the rows."""
        return Rows(self.values[index], self.norms[index])


class Space:
    """Embeddings on the computing device, with their mean as the origin of all rows made here."""

    def __init__(self, embeddings: Floats) -> None:
        self.points = on_device(embeddings)
        self.origin = self.points.mean(dim=0).double()

    def rows(self, points: Tensor) -> Rows:
        """(k, dimensions) points as rows."""
        return _rows(points - self.origin)

    def blocks(self, positions: Tensor | None = None) -> Iterator[tuple[slice | Tensor, Rows]]:
        """All points, or those at `positions`, by blocks: where they are, and rows that the next block overwrites."""
        size = len(self.points) if positions is None else len(positions)
        buffer = self.origin.new_empty(min(BLOCK, size), self.points.shape[1])
        for start in range(0, size, BLOCK):
            span = slice(start, min(start + BLOCK, size))
            part = span if positions is None else positions[span]
            yield part, _rows(torch.sub(self.points[part], self.origin, out=buffer[: span.stop - start]))

    def rounding(self, norm: float) -> float:
        """How far a computed squared distance may be off, between points of about this squared length."""
        return float(16 * torch.finfo(torch.float64).eps * self.points.shape[1] ** 0.5 * norm)


def _rows(values: Tensor) -> Rows:
    return Rows(values, torch.linalg.vector_norm(values, dim=1).square_())


def squared_distances(a: Rows, b: Rows) -> Tensor:
    """(len(a), len(b)) squared distances."""
    products = torch.addmm(b.norms, a.values, b.values.T, alpha=-2)
    return products.add_(a.norms[:, None]).clamp_(min=0)


def on_device(array: Floats) -> Tensor:
    """The array as a tensor where distances are computed; on a CPU without copying it."""
    with warnings.catch_warnings():  # of a read-only array: nothing here writes to it
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        tensor = torch.from_numpy(array)
    return tensor.to("cuda" if torch.cuda.is_available() else "cpu")
