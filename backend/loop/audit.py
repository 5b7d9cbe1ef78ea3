"""Audit tasks: a uniform random sample of the tasks, kept out of the strategy's reach.

A task is an audit task when a number drawn from its id falls below the audit share. Whether it is one is
thus decided before anybody looks at it, for tasks that are added later as well, and the labeled audit
tasks measure the model without the strategy's bias.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def random_order(project_id: int, task_ids: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
    """A number in [0, 1) for each task (n,), uniform, and always the same for the same project and task.

    The mixing function is SplitMix64's (Steele, Lea, Flood 2014, doi:10.1145/2660193.2660195).
    """
    mixed = np.asarray(task_ids, dtype=np.uint64) + np.uint64(project_id * 0xD1B54A32D192ED03 % 2**64)
    mixed = mixed * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53


def shuffled(project_id: int, task_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The ids (n,) in the order of their numbers, which is random and always the same."""
    return task_ids[np.argsort(random_order(project_id, task_ids))]


def interleave(ranked: Sequence[int], audit: Sequence[int], share: float) -> list[tuple[int, bool]]:
    """Task ids with whether each is an audit task, such that every prefix holds about `share` audit tasks.

    Where one list ends, the rest of the other follows.
    """
    merged: list[tuple[int, bool]] = []
    taken_ranked = taken_audit = 0
    while taken_ranked < len(ranked) or taken_audit < len(audit):
        audit_due = taken_audit < share * (len(merged) + 1) - 0.5 or taken_ranked == len(ranked)
        if taken_audit < len(audit) and audit_due:
            merged.append((audit[taken_audit], True))
            taken_audit += 1
        elif taken_ranked < len(ranked):
            merged.append((ranked[taken_ranked], False))
            taken_ranked += 1
        else:
            break
    return merged
