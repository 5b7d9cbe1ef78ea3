"""Leases: the right to do something alone, across threads, processes and machines."""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from sqlalchemy import ColumnElement, DateTime, and_, delete, func, literal, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from backend.store.database import Database
from backend.store.tables import Lease, UtcDateTime, now

log = logging.getLogger(__name__)

LEASE_SECONDS = 15.0  # a killed holder blocks the others for so long
WORKER = "worker"  # the role of the processes that run rounds
LOOK_SECONDS = 0.1  # how often one who waits for a lease looks
PRESENCE_SECONDS = 60.0  # a process killed on another machine seems present for so long
LONGEST = timedelta(seconds=2 * PRESENCE_SECONDS)  # what ends later was taken before the clock was put back


class LeaseLost(Exception):
    """Someone else took over while we were stopped or cut off; what we were doing is theirs now."""


class HeldLease:
    """A lease in our hands, renewed by a thread of its own."""

    def __init__(self, database: Database, name: str, owner: str, seconds: float) -> None:
        self._database, self._name, self._owner, self._seconds = database, name, owner, seconds
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease {name}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Call before each thing that must not be done twice. Asks the store, and renews the lease.

        Raises:
            LeaseLost: the lease ran out, while this process was stopped or cut off, and another has it now.
        """
        if not self._renewed():
            raise LeaseLost(f"the lease {self._name!r} was taken over by another worker")

    def release(self) -> None:
        """Give the lease back; where the store cannot be reached, it ends by itself."""
        self._released.set()
        self._thread.join()
        try:
            with self._database.write() as session:
                session.execute(delete(Lease).where(Lease.name == self._name, Lease.owner == self._owner))
        except SQLAlchemyError as error:
            log.warning("the lease %s is not given back, but ends by itself: %s", self._name, error)

    def _renew(self) -> None:
        while not self._released.wait(self._seconds / 4):
            try:
                self._renewed()
            except SQLAlchemyError as error:
                log.warning("could not renew the lease %s; trying again: %s", self._name, error)

    def _renewed(self) -> bool:
        """Renew the lease; whether it was still ours."""
        with self._database.write() as session:
            renewed = session.execute(
                update(Lease)
                .where(Lease.name == self._name, Lease.owner == self._owner)
                .values(until=_moment(self._database, timedelta(seconds=self._seconds)))
            )
            return bool(renewed.rowcount)  # type: ignore[attr-defined]


@contextmanager
def lease(
    database: Database, name: str, seconds: float = LEASE_SECONDS, *, wait: float = 0.0
) -> Iterator[HeldLease | None]:
    """Hold the lease `name` during the block; gives None where someone else still holds it after `wait` seconds."""
    owner = f"{_process()}:{uuid.uuid4().hex[:8]}"
    until = time.monotonic() + wait
    while not _take(database, name, owner, seconds):
        if time.monotonic() >= until:
            yield None
            return
        time.sleep(LOOK_SECONDS)
    held = HeldLease(database, name, owner, seconds)
    try:
        yield held
    finally:
        held.release()


def _take(database: Database, name: str, owner: str, seconds: float) -> bool:
    """Take a lease that is free, in one statement: two who find it free at once can't both get it."""
    with database.read() as session:
        current = session.get(Lease, name)
    free = ~_runs(database)
    if current and _holder_is_dead(current.owner):
        free = or_(free, Lease.owner == current.owner)
    insert = sqlite.insert if database.is_sqlite else postgresql.insert
    ours = {"owner": owner, "until": _moment(database, timedelta(seconds=seconds))}
    statement = insert(Lease).values(name=name, **ours)
    statement = statement.on_conflict_do_update(index_elements=["name"], set_=ours, where=free)
    with database.write() as session:
        return bool(session.execute(statement).rowcount)  # type: ignore[attr-defined]


def holder(database: Database, name: str) -> str | None:
    """Who holds the lease now (host:process:…), if anyone."""
    with database.read() as session:
        owner = session.scalar(select(Lease.owner).where(Lease.name == name, _runs(database)))
    return None if owner is None or _holder_is_dead(owner) else owner


def give_back_all(database: Database) -> None:
    """Give back the leases of this process, which is about to end: others need not wait until they end."""
    with database.write() as session:
        session.execute(delete(Lease).where(Lease.owner.startswith(f"{_process()}:", autoescape=True)))


@contextmanager
def presence(database: Database, role: str) -> Iterator[None]:
    """Let others see, during the block, that a process in this role runs; see `present`."""
    with database.write() as session:  # those that were killed leave theirs behind
        session.execute(delete(Lease).where(Lease.name.startswith(f"{role}:"), ~_runs(database)))
    with lease(database, f"{role}:{uuid.uuid4().hex}", PRESENCE_SECONDS):
        yield


def present(database: Database, role: str) -> int:
    """How many processes in this role run."""
    with database.read() as session:
        alive = select(Lease.owner).where(Lease.name.startswith(f"{role}:"), _runs(database))
        return sum(not _holder_is_dead(owner) for owner in session.scalars(alive))


def _moment(database: Database, later: timedelta = timedelta()) -> ColumnElement[datetime]:
    """Now, or `later`, by the one clock of all who share the store: the server's, or that of SQLite's machine."""
    if database.is_sqlite:
        return literal(now() + later, UtcDateTime)
    return func.clock_timestamp(type_=DateTime(timezone=True)) + later


def _runs(database: Database) -> ColumnElement[bool]:
    """Condition on `Lease`: it has not ended. A clock that is put back does not prolong it."""
    return and_(Lease.until > _moment(database), Lease.until <= _moment(database, LONGEST))


def _holder_is_dead(owner: str) -> bool:
    """A process of this very machine that no longer runs; saves waiting for its lease to end."""
    machine, process, _ = owner.rsplit(":", 2)
    if machine != _machine():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _process() -> str:
    return f"{_machine()}:{os.getpid()}"


@cache
def _machine() -> str:
    """Where process numbers mean what they mean here: two containers may share a name, even a kernel."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}-{boot[:8]}-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:  # not Linux
        return socket.gethostname()
