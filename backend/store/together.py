"""Calls that come at the same time from many threads, answered by one of them for all."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Key = TypeVar("Key")
Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Together(Generic[Key, Item, Answer]):
    """Makes of `act(key, items)`, which gives an answer for each of many items, a call for one item.

    While one thread acts, others come; the next of them acts for all that have come by then. So a call alone is
    answered at once, and of many calls each costs a share of a transaction only. What `act` raises, all raise for
    whom it acted.

    apart: seconds from the beginning of one act to that of the next, at least; more calls then share each.
    """

    def __init__(self, act: Callable[[Key, Sequence[Item]], Sequence[Answer]], apart: float = 0.0) -> None:
        self._act, self._apart = act, apart
        self._next = 0.0
        self._acting = threading.Lock()
        self._adding = threading.Lock()
        self._waiting: dict[Key, list[tuple[Item, Future[Answer]]]] = {}

    def __call__(self, key: Key, item: Item) -> Answer:
        """The answer for one item. Only items with the same key are acted on together."""
        future: Future[Answer] = Future()
        with self._adding:
            self._waiting.setdefault(key, []).append((item, future))
        with self._acting:
            if not future.done():
                time.sleep(max(0.0, self._next - time.monotonic()))
                self._next = time.monotonic() + self._apart
                self._act_for_all(key)
        return future.result()

    def _act_for_all(self, key: Key) -> None:
        with self._adding:
            waiting = self._waiting.pop(key)
        try:
            answers = self._act(key, [item for item, _ in waiting])
        except BaseException as error:
            for _, future in waiting:
                future.set_exception(error)
        else:
            for (_, future), answer in zip(waiting, answers, strict=True):
                future.set_result(answer)
