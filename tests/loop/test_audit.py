import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from backend.loop.audit import interleave, random_order


def test_the_draw_is_uniform_and_independent_of_neighbours() -> None:
    draws = random_order(3, np.arange(100_000))
    counts = np.histogram(draws, bins=20, range=(0, 1))[0]
    assert np.abs(counts - 5_000).max() < 5 * np.sqrt(5_000)
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.02


def test_the_draw_depends_on_project_and_task_alone() -> None:
    assert random_order(3, [10, 11]).tolist() == random_order(3, [11, 10])[::-1].tolist()
    assert random_order(3, [10])[0] != random_order(4, [10])[0]


@given(st.integers(0, 60), st.integers(0, 60), st.floats(0, 0.5))
def test_every_prefix_holds_its_share_of_audit_tasks(ranked: int, audit: int, share: float) -> None:
    merged = interleave(list(range(ranked)), list(range(1_000, 1_000 + audit)), share)
    assert [task for task, is_audit in merged if not is_audit] == list(range(ranked))
    assert [task for task, is_audit in merged if is_audit] == list(range(1_000, 1_000 + audit))
    taken_audit = taken_ranked = 0
    for length, (_, is_audit) in enumerate(merged, start=1):
        taken_audit += is_audit
        taken_ranked += not is_audit
        if taken_audit < audit and taken_ranked < ranked:  # while there is a choice
            assert abs(taken_audit - share * length) <= 1


def test_ten_per_cent_means_one_of_the_first_ten() -> None:
    merged = interleave(list(range(90)), list(range(1_000, 1_010)), 0.1)
    for start in range(0, 100, 10):
        assert sum(is_audit for _, is_audit in merged[start : start + 10]) == 1
