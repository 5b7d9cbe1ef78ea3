from pathlib import Path

from sqlalchemy import update

from backend.loop.selection import unlabeled_pool
from backend.store.tables import Task
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
