"""Clocks that are put forward and back: what was decided by them is decided anew, and nobody waits for an hour."""

from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest

from backend.loop.round import pause_until_due
from backend.store import tables
from backend.store.database import Database
from backend.store.leases import WORKER, LeaseLost, holder, lease, presence, present
from backend.store.tables import Lease, Round, now

HOUR = timedelta(hours=1)


class Clock:
    """The machine's clock, as the backend reads it."""

    ahead = timedelta()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    shifted = Clock()

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + shifted.ahead

    monkeypatch.setattr(tables, "datetime", Shifted)
    return shifted


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """On SQLite, where leases end by the machine's clock; PostgreSQL has its own."""
    database = Database(f"sqlite:///{tmp_path / 'state.db'}")
    database.migrate()
    return database


def test_a_round_does_not_wait_for_a_moment_that_is_an_hour_away_again(clock: Clock) -> None:
    waiting = Round(not_before=now() + timedelta(seconds=30))
    assert 29 < pause_until_due(waiting) <= 30
    clock.ahead = -HOUR
    assert pause_until_due(waiting) == 0
    clock.ahead = HOUR
    assert pause_until_due(waiting) == 0


def test_the_lease_of_someone_who_is_gone_ends_although_the_clock_was_put_back(
    database: Database, clock: Clock
) -> None:
    with database.write() as session:
        until = now() + timedelta(seconds=15)
        session.add(Lease(name="round:1", owner="another-machine:1:abc", until=until))
    with lease(database, "round:1") as too_early:
        assert too_early is None
    clock.ahead = -HOUR
    assert holder(database, "round:1") is None
    with lease(database, "round:1") as held:
        assert held is not None


def test_a_lease_that_is_held_is_held_again_after_a_jump_or_its_holder_is_told(
    database: Database, clock: Clock
) -> None:
    for jump in (HOUR, timedelta()):  # forward, and back again
        with lease(database, "round:1", seconds=100) as held:
            assert held is not None
            clock.ahead = jump
            held.check()
            with lease(database, "round:1") as second:
                assert second is None
    with lease(database, "round:1", seconds=100) as held:
        assert held is not None
        clock.ahead = HOUR
        with lease(database, "round:1") as second:  # before the holder could renew it
            assert second is not None
            with pytest.raises(LeaseLost):
                held.check()


def test_a_worker_is_seen_whatever_the_clock_does(database: Database, clock: Clock) -> None:
    with presence(database, WORKER):
        assert present(database, WORKER) == 1
    with database.write() as session:
        until = now() + HOUR
        session.add(Lease(name="worker:1", owner="another-machine:1:abc", until=until))
    assert present(database, WORKER) == 0  # it wrote that before the clock was put back, and never since
