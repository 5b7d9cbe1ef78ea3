"""The points of the embedding map, as the browser takes them: one block of numbers, for a million tasks as well.

Little-endian, without gaps:

    4 bytes      "ALM1"
    uint32       n, the number of points
    uint32       length of the description in bytes, a multiple of 4
    …            the description: JSON, filled up with spaces
    uint32[n]    task ids
    float32[n]   x in [-1, 1]
    float32[n]   y in [-1, 1]
    uint8[n]     kind: a position in KINDS; the points are ordered by it, so that the rarer ones are drawn on top
    uint8[n]     uncertainty of the committee: 0 to 254 of the most that is possible; 255 where it was not asked
    uint8[n]     class: a position in the description's `classes`; OTHER for one that is not among them, NONE for none

The description has `kinds` and how many points there are of each (`counts`), and `classes`, the most frequent first.
Its numbers come from the store by columns: rows as objects would take seconds.
"""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Text, cast, func, select
from sqlalchemy.orm import Session

from backend.deployment import Deployment
from backend.labelstudio.control import Control
from backend.labelstudio.labeling_config import UnsupportedConfig, read_labeling_config
from backend.learners.tasks import read_stored_target
from backend.loop.opinions import read_opinions
from backend.loop.projection import current_map, read_map
from backend.loop.publishing import unlabeled_now
from backend.loop.rounds import served_round
from backend.store.ids import Ids, read_ids
from backend.store.tables import Event, Project, QueueEntry, Task
from backend.targets import votes_of

KINDS = ("pool", "queued", "audit", "labeled")
POOL, QUEUED, AUDIT, LABELED = range(len(KINDS))
CLASSES = 20  # that have a number of their own, the most frequent ones: more colours nobody can tell apart
OTHER, NONE, UNKNOWN = 254, 255, 255
MOST_UNCERTAIN = 254

Bytes = NDArray[np.uint8]


def fingerprint(deployment: Deployment, project: Project) -> str | None:
    """Changes whenever the points may have changed; None where there is no map yet. Costs next to nothing."""
    name = current_map(deployment, project.id)
    if name is None:
        return None
    with deployment.database.read() as session:
        published = QueueEntry.round_id == (project.published_round or 0), QueueEntry.published
        seen = (
            name,
            deployment.embeddings.rows(project.id, name),
            project.label_config,
            project.published_round,
            session.scalar(select(func.count()).select_from(QueueEntry).where(*published)),
            project.synced_until,
            project.synced_event,
            session.scalar(select(func.max(Event.id)).where(Event.project_id == project.id)),
        )
    return hashlib.sha256(repr(seen).encode()).hexdigest()[:24]


def map_points(deployment: Deployment, project: Project) -> bytes:
    """The points of a project's map; none where there is no map. Raises DamagedEmbeddings."""
    name = current_map(deployment, project.id)
    if name is None:
        return encode(Points.of(np.empty(0, np.int64), np.empty((0, 2), np.float32)), ())
    placed, places = read_map(deployment, project.id, name)
    with deployment.database.read() as session:
        here = np.isin(placed, read_ids(session, select(Task.id).where(Task.project_id == project.id)))
        points = Points.of(placed[here], places[here])
        _set_kinds(session, project, points)
        classes = _set_answers(session, deployment, project, points)
    return encode(points, classes)


@dataclass(frozen=True)
class Points:
    """Points by columns, (n,) each; ids ascending."""

    ids: Ids
    places: NDArray[np.float32]
    """(n, 2)"""
    kinds: Bytes
    uncertainty: Bytes
    classes: Bytes

    @classmethod
    def of(cls, ids: Ids, places: NDArray[np.float32]) -> "Points":
        """Points of which no more is known: of the pool."""
        count = len(ids)
        unknown, none = np.full(count, UNKNOWN, np.uint8), np.full(count, NONE, np.uint8)
        return cls(ids, places, np.zeros(count, np.uint8), unknown, none)

    def find(self, ids: Ids) -> tuple[Ids, NDArray[np.bool_]]:
        """Positions of those of the tasks that have a point, and which of them do."""
        if not len(self.ids):
            return np.empty(0, np.int64), np.zeros(len(ids), bool)
        at = np.searchsorted(self.ids, ids).clip(max=len(self.ids) - 1)
        known = self.ids[at] == ids
        return at[known], known


def encode(points: Points, classes: tuple[str, ...]) -> bytes:
    """The points in the layout that the module describes."""
    counts = np.bincount(points.kinds, minlength=len(KINDS)).tolist()
    description = json.dumps({"kinds": KINDS, "counts": counts, "classes": classes}).encode()
    description += b" " * (-len(description) % 4)
    order = np.argsort(points.kinds, kind="stable")
    columns = (
        points.ids.astype("<u4"),
        points.places[:, 0].astype("<f4"),
        points.places[:, 1].astype("<f4"),
        points.kinds,
        points.uncertainty,
        points.classes,
    )
    lengths = np.array([len(order), len(description)], "<u4").tobytes()
    return b"".join([b"ALM1", lengths, description, *(column[order].tobytes() for column in columns)])


def _set_kinds(session: Session, project: Project, points: Points) -> None:
    ours = Task.project_id == project.id
    labeled = Task.target.is_not(None) | Task.labeled
    queue = select(QueueEntry.task_id).join(Task, (Task.id == QueueEntry.task_id) & unlabeled_now(project.id))
    queued = queue.where(QueueEntry.round_id == (project.published_round or 0), QueueEntry.published)
    for kind, query in (
        (LABELED, select(Task.id).where(ours, labeled)),
        (QUEUED, queued),
        (AUDIT, select(Task.id).where(ours, Task.audit, labeled)),
        (AUDIT, queued.where(Task.audit)),
    ):
        at, _ = points.find(read_ids(session, query))
        points.kinds[at] = kind


def _set_answers(
    session: Session, deployment: Deployment, project: Project, points: Points
) -> tuple[str, ...]:
    """What is known by annotators, or else by the served model, of what the first control asks; the classes' names."""
    control = _first_control(project)
    served = served_round(deployment, project.id)
    if control is None:
        return ()
    opinions = read_opinions(deployment, served, control) if served else None
    labeled_ids, names = _annotated(session, project.id, control)
    counted = Counter(name for name in names if name is not None)
    if opinions is not None:
        thought = np.bincount(opinions.likeliest[opinions.likeliest >= 0], minlength=len(opinions.classes))
        counted.update(dict(zip(opinions.classes, thought.tolist(), strict=True)))
    classes = tuple(sorted(name for name, count in counted.most_common(CLASSES) if count))
    numbers: dict[str | None, int] = {name: number for number, name in enumerate(classes)} | {None: NONE}
    if opinions is not None:
        at, known = points.find(opinions.task_ids)
        scaled = opinions.uncertainty[known].astype(np.float32).clip(0, 1) * MOST_UNCERTAIN
        points.uncertainty[at] = scaled.round()
        table = np.array([*(numbers.get(name, OTHER) for name in opinions.classes), NONE], np.uint8)
        points.classes[at] = table[opinions.likeliest[known]]
    at, known = points.find(labeled_ids)
    points.classes[at] = np.array([numbers.get(name, OTHER) for name in names], np.uint8)[known]
    points.uncertainty[at] = UNKNOWN  # of the time before it was labeled
    return classes


def _annotated(session: Session, project_id: int, control: Control) -> tuple[Ids, list[str | None]]:
    """Labeled tasks, and the class that most annotators chose in each."""
    rows = session.execute(
        select(Task.id, cast(Task.target, Text)).where(
            Task.project_id == project_id, Task.target.is_not(None)
        )
    ).all()
    read: dict[str, str | None] = {}  # the same answer is given many times
    for _, text in rows:
        if text not in read:
            read[text] = _class_of(control, text)
    return np.array([row[0] for row in rows], np.int64), [read[row[1]] for row in rows]


def _class_of(control: Control, text: str) -> str | None:
    stored = json.loads(text).get(control.name)
    if stored is None:
        return None
    votes = votes_of(read_stored_target(control, stored))
    return max(votes, key=lambda name: votes[name], default=None)


def _first_control(project: Project) -> Control | None:
    try:
        return next(iter(read_labeling_config(project.label_config).controls), None)
    except UnsupportedConfig:
        return None
