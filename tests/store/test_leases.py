import multiprocessing
import os
import signal
import threading
import time
from datetime import datetime, timedelta

import pytest

from backend.store.database import Database
from backend.store.leases import LeaseLost, holder, lease
from backend.store.tables import Lease, now


@pytest.fixture
def database(state_url: str) -> Database:
    database = Database(state_url)
    database.migrate()
    return database


def test_only_one_holds_a_lease(database: Database) -> None:
    with lease(database, "round:1") as first, lease(database, "round:1") as second:
        assert first is not None
        assert second is None
        with lease(database, "round:2") as other:
            assert other is not None
    with lease(database, "round:1") as again:
        assert again is not None


def test_whoever_waits_gets_a_lease_once_it_is_free(database: Database) -> None:
    taken, enough = threading.Event(), threading.Event()

    def hold() -> None:
        with lease(database, "round:1"):
            taken.set()
            enough.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait()
    with lease(database, "round:1", wait=0.1) as too_early:
        assert too_early is None
    threading.Timer(0.3, enough.set).start()
    with lease(database, "round:1", wait=30) as held:
        assert held is not None
    holder.join()


def test_a_held_lease_is_renewed(database: Database) -> None:
    def until() -> datetime:
        with database.read() as session:
            return session.get_one(Lease, "round:1").until

    with lease(database, "round:1", seconds=4) as held:
        first = until()
        deadline = time.monotonic() + 60
        while until() <= first:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with lease(database, "round:1") as second:
            assert second is None
        held.check()  # type: ignore[union-attr]


def _hold(url: str, ready: "multiprocessing.synchronize.Event") -> None:
    with lease(Database(url), "round:1", seconds=100):
        ready.set()
        time.sleep(600)


def test_the_lease_of_a_killed_process_is_free_at_once(database: Database, state_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_hold, args=(state_url, ready))
    process.start()
    assert ready.wait(60)
    assert holder(database, "round:1") is not None
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert holder(database, "round:1") is None
    with lease(database, "round:1") as held:
        assert held is not None


def test_the_lease_of_a_silent_machine_ends_by_itself(database: Database) -> None:
    with lease(database, "round:1", seconds=30):
        with database.write() as session:  # as if its holder were elsewhere
            session.get_one(Lease, "round:1").owner = "another-machine:1:abc"
        with lease(database, "round:1") as too_early:
            assert too_early is None
        with database.write() as session:  # as if its time were over
            session.get_one(Lease, "round:1").until = now() - timedelta(seconds=1)
        with lease(database, "round:1") as held:
            assert held is not None


def test_whoever_lost_the_lease_is_told(database: Database) -> None:
    with lease(database, "round:1", seconds=100) as held:  # so long that no renewal comes first
        assert held is not None
        held.check()
        with database.write() as session:
            session.get_one(Lease, "round:1").owner = "another-machine:1:abc"
        with pytest.raises(LeaseLost, match="round:1"):
            held.check()
    with database.read() as session:  # and does not take it from its new holder
        assert session.get_one(Lease, "round:1").owner == "another-machine:1:abc"


def test_of_many_that_want_a_lease_at_once_one_gets_it(database: Database) -> None:
    start, end = threading.Barrier(8), threading.Barrier(8)
    got: list[bool] = []

    def want() -> None:
        start.wait()
        with lease(database, "round:1") as held:
            got.append(held is not None)
            end.wait()

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False] * 7 + [True]
