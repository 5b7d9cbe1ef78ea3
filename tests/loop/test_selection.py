from pathlib import Path

import numpy as np
from sqlalchemy import select, update

from backend.loop.rounds import latest_round
from backend.loop.selection import (
    AUDIT_REASON,
    NOT_EMBEDDED_REASON,
    NOT_RANKED_REASON,
    Ranked,
    UnlabeledPool,
    unlabeled_pool,
    write_queue,
)
from backend.store.tables import QueueEntry, Task
from tests.loop.test_triggers import EMBEDDER, Loop


def test_unlabeled_tasks_by_what_can_be_done_with_them(tmp_path: Path) -> None:
    loop = Loop(tmp_path, tasks=20)
    changes = {
        1: {"broken": "no image", "skips": 1, "audit": True, "embedded": None},
        2: {"skips": 2, "audit": True},
        3: {"audit": True, "embedded": None},
        4: {"embedded": None},
        5: {"embedded": "another"},
        6: {"target": {"digit": {"votes": {"3": 1}}}},
        7: {"labeled": True},
    }
    with loop.deployment.database.write() as session:
        for task_id, values in changes.items():
            session.execute(update(Task).where(Task.id == task_id).values(**values))
    pool = unlabeled_pool(loop.deployment, 1, EMBEDDER)
    assert {name: sorted(part.tolist()) for name, part in vars(pool).items()} == {
        "candidates": [0, *range(8, 20)],
        "audit": [3],
        "not_embedded": [4, 5],
        "skipped": [2],
        "broken": [1],
    }
    assert pool.size == 18
    assert pool.candidates.tolist() != sorted(pool.candidates)  # in random order
    nothing_embedded = unlabeled_pool(loop.deployment, 1, None)
    assert sorted(nothing_embedded.not_embedded.tolist()) == [0, 4, 5, *range(8, 20)]
    assert nothing_embedded.candidates.size == 0


def test_audit_tasks_keep_their_share_where_most_of_a_pool_cannot_be_ranked_yet(tmp_path: Path) -> None:
    loop = Loop(tmp_path)
    pool = UnlabeledPool(
        candidates=np.array([1, 2, 3]),
        audit=np.arange(10, 20),
        not_embedded=np.arange(20, 30),
        skipped=np.array([4]),
        broken=np.array([5]),
    )
    ranking = [Ranked(2, 0.9, "the best"), Ranked(1, 0.5, "the next")]
    current = latest_round(loop.deployment, 1)
    assert current is not None

    def written(size: int) -> list[tuple[int, str]]:
        assert write_queue(loop.deployment, current, pool, ranking, 0.25, size) == min(size, pool.size)
        query = select(QueueEntry.task_id, QueueEntry.reason).where(QueueEntry.round_id == current.id)
        with loop.deployment.database.read() as session:
            return [tuple(row) for row in session.execute(query.order_by(QueueEntry.rank))]

    queue = written(12)
    assert [row for row in queue if row[1] != AUDIT_REASON] == [
        (2, "the best"),
        (1, "the next"),
        (3, NOT_RANKED_REASON),
        *((task_id, NOT_EMBEDDED_REASON) for task_id in range(20, 26)),
    ]
    places = [place for place, (_, reason) in enumerate(queue) if reason == AUDIT_REASON]
    assert [queue[place][0] for place in places] == [10, 11, 12]
    assert np.ptp(np.diff(places)) == 0  # evenly
    assert {task_id for task_id, _ in written(100)} == {*range(1, 6), *range(10, 30)}
    assert [task_id for task_id, _ in written(100)][-2:] == [4, 5]
