"""A mask → polygons that a person can edit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

MAX_POINTS = 40
TOLERANCE = 1.0  # of a pixel: the steps of a slanting edge are smaller, at any angle
SPECK = 1 / 2000  # share of the mask's pixels

Corners = NDArray[np.float64]  # (corners, 2): x and y in pixels

# East, south, west, north; and, walking so, the pixels ahead of a point, on the left and on the right.
STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))
AHEAD_LEFT = ((0, -1), (0, 0), (-1, 0), (-1, -1))
AHEAD_RIGHT = ((0, 0), (-1, 0), (-1, -1), (0, -1))


def outlines(mask: NDArray[np.uint8], max_points: int = MAX_POINTS) -> list[Corners]:
    """The outlines of a mask's connected parts, the largest part first; each of 3 to `max_points` corners.

    They go along the edges of the pixels and are then simplified. Holes are covered. Of the parts, those smaller than
    SPECK are left out, save the largest.
    """
    parts, count = ndimage.label(mask)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    places = ndimage.find_objects(parts)
    found: list[Corners] = []
    for part in np.argsort(-sizes, kind="stable"):
        if found and sizes[part] < SPECK * mask.size:
            break
        rows, columns = places[part]
        outline = _outline(parts[rows, columns] == part + 1)
        found.append(simplified(outline, max_points) + np.array((columns.start, rows.start)))
    return found


def simplified(outline: Corners, max_points: int = MAX_POINTS) -> Corners:
    """The outline by its most significant corners: at least 3, at most `max_points`, and no more than TOLERANCE needs.

    Douglas and Peucker's algorithm (Algorithms for the reduction of the number of points required to represent a
    digitized line or its caricature, 1973): it keeps a corner that is farther than the tolerance from the chord between
    its kept neighbours. The greatest tolerance that keeps a corner is its significance: one pass is enough for all.
    """
    significance = np.zeros(len(outline))
    opposite = int(np.argmax(((outline - outline[0]) ** 2).sum(axis=1)))
    aside = int(np.argmax(_distances(outline, outline[0], outline[opposite])))
    anchors = sorted({0, opposite, aside})
    significance[anchors] = np.inf
    closed = np.concatenate((outline, outline[:1]))
    pending = [
        (start, stop, np.inf) for start, stop in zip(anchors, [*anchors[1:], len(outline)], strict=True)
    ]
    while pending:
        start, stop, above = pending.pop()
        if stop - start < 2:
            continue
        distances = _distances(closed[start + 1 : stop], closed[start], closed[stop])
        middle = start + 1 + int(np.argmax(distances))
        significance[middle] = min(above, distances.max())
        if significance[middle] >= TOLERANCE:
            pending += [(start, middle, significance[middle]), (middle, stop, significance[middle])]
    most = np.argsort(-significance, kind="stable")[:max_points]
    return outline[np.sort(most[significance[most] >= TOLERANCE])]


def _distances(points: Corners, start: Corners, stop: Corners) -> NDArray[np.float64]:
    """From each point to the chord from `start` to `stop`."""
    chord = stop - start
    along = np.clip((points - start) @ chord / max(float(chord @ chord), 1e-12), 0, 1)
    distances: NDArray[np.float64] = np.linalg.norm(points - start - along[:, None] * chord, axis=1)
    return distances


def _outline(part: NDArray[np.bool_]) -> Corners:
    """The corners of a connected part's outer edge, clockwise from the first pixel of its first row."""
    inside = np.pad(part, 1).tolist()  # within a frame, so that every pixel ahead exists
    first = (int(np.argmax(part[0])) + 1, 1)
    (x, y), heading = first, 0
    corners = [first]
    while True:
        x, y = x + STEPS[heading][0], y + STEPS[heading][1]
        (left_x, left_y), (right_x, right_y) = AHEAD_LEFT[heading], AHEAD_RIGHT[heading]
        if not inside[y + right_y][x + right_x]:
            heading = (heading + 1) % 4
        elif inside[y + left_y][x + left_x]:
            heading = (heading - 1) % 4
        else:
            continue
        if (x, y) == first:
            return np.array(corners, np.float64) - 1
        corners.append((x, y))
