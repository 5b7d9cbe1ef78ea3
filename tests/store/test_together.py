import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from backend.store.together import Together


class Acts:
    """Doubles numbers; the first act waits until it may go on, so that others come meanwhile."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, list[int]]] = []
        self.moments: list[float] = []
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, key: str, items: Sequence[int]) -> list[int]:
        self.moments.append(time.monotonic())
        self.seen.append((key, list(items)))
        self.begun.set()
        assert self.go_on.wait(30)
        if 13 in items:
            raise ValueError("13")
        return [2 * item for item in items]


def calls_during_the_first(acts: Acts, calls: Sequence[tuple[str, int]]) -> list[int | str]:
    """What each call gave, or the error that it raised; all but the first come while the first is acted on."""
    together = Together(acts)
    with ThreadPoolExecutor(len(calls)) as pool:
        first = pool.submit(together, *calls[0])
        assert acts.begun.wait(30)
        others = [pool.submit(together, *call) for call in calls[1:]]
        while sum(map(len, together._waiting.values())) < len(others):
            time.sleep(0.001)
        acts.go_on.set()
        done = [first, *others]
        return [str(one.exception()) if one.exception() else one.result() for one in done]


def test_calls_that_come_while_one_acts_are_acted_on_together() -> None:
    acts = Acts()
    calls = [("a", number) for number in range(12)]
    assert calls_during_the_first(acts, calls) == [2 * number for number in range(12)]
    assert [sorted(items) for _, items in acts.seen] == [[0], list(range(1, 12))]


def test_keys_are_kept_apart() -> None:
    acts = Acts()
    assert calls_during_the_first(acts, [("a", 0), ("b", 1), ("a", 2), ("b", 3)]) == [0, 2, 4, 6]
    assert sorted((key, sorted(items)) for key, items in acts.seen) == [("a", [0]), ("a", [2]), ("b", [1, 3])]


def test_an_error_reaches_those_whom_it_concerns_and_no_others() -> None:
    acts = Acts()
    assert calls_during_the_first(acts, [("a", 0), ("b", 13), ("a", 1), ("b", 3)]) == [0, "13", 2, "13"]


def test_a_call_alone_is_answered() -> None:
    acts = Acts()
    acts.go_on.set()
    together = Together(acts)
    assert [together("a", 1), together("a", 2)] == [2, 4]
    with pytest.raises(ValueError, match="13"):
        together("a", 13)
    assert together("a", 3) == 6


def test_acts_begin_apart_and_each_call_is_acted_on_once() -> None:
    acts, apart = Acts(), 0.2
    acts.go_on.set()
    together = Together(acts, apart)
    began = time.monotonic()
    together("a", 0)  # at once
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda number: together("a", number), (1, 2, 3)))
    # From the beginning on: an act may be late, and the next one is then less apart from it.
    assert all(moment - began >= number * apart for number, moment in enumerate(acts.moments))
    assert sorted(item for _, items in acts.seen for item in items) == [0, 1, 2, 3]
