"""The images of a project's tasks: where they are, in which order they are taken, and reading them small."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image, Resampling
from sqlalchemy import ColumnElement, case, select

from backend.deployment import Deployment
from backend.loop.audit import shuffled
from backend.store.ids import read_ids_by_part
from backend.store.tables import Task

LOADERS = 8  # threads that fetch and decode
SOURCES_AT_ONCE = 500

Source = tuple[int, str]
"""A task's id, and where its image is."""


def in_random_order(
    deployment: Deployment, project_id: int, condition: ColumnElement[bool]
) -> NDArray[np.int64]:
    """Ids of the tasks that fulfil a condition on `Task`, in the order in which their images are to be taken.

    It is random, with the audit tasks spread evenly: these were drawn by the same numbers and would come first, and a
    strategy would have nothing to choose from. Among themselves, they come as annotators will be asked.
    """
    part = case((Task.audit, "audit"), else_="others")
    with deployment.database.read() as session:
        parts = read_ids_by_part(
            session, select(part, Task.id).where(Task.project_id == project_id, condition)
        )
    if not parts:
        return np.empty(0, np.int64)
    ordered = [shuffled(project_id, ids) for ids in parts.values()]
    places = [(np.arange(len(ids)) + 0.5) / len(ids) for ids in ordered]
    return np.concatenate(ordered)[np.argsort(np.concatenate(places), kind="stable")]


def sources_of(
    deployment: Deployment, project_id: int, task_ids: Sequence[int] | NDArray[np.int64]
) -> Iterator[Source]:
    """Where the images of tasks are, in the order of `task_ids`; a task that is gone is left out."""
    for start in range(0, len(task_ids), SOURCES_AT_ONCE):
        chosen = [int(task_id) for task_id in task_ids[start : start + SOURCES_AT_ONCE]]
        with deployment.database.read() as session:
            query = select(Task.id, Task.source).where(Task.project_id == project_id, Task.id.in_(chosen))
            found = {task.id: task.source for task in session.execute(query)}
        yield from ((task_id, found[task_id]) for task_id in chosen if task_id in found)


def small_image(deployment: Deployment, source: Source, side: int) -> Image:
    """An image not much larger than the square into which it will be squashed: many are held at a time.

    side: of the square, in pixels.

    Raises MediaError for an image that cannot be had.
    """
    task_id, address = source
    return shrunk(deployment.media.image(address, task_id, at_least=side), side)


def shrunk(image: Image, side: int) -> Image:
    """The image, where it is larger at twice the sides of that square."""
    size = (min(image.width, 2 * side), min(image.height, 2 * side))
    return image.resize(size, Resampling.BOX, reducing_gap=2.0)
