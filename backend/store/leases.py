"""Leases: the right to do something alone, across threads, processes and machines."""

import logging
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy import delete, select, update

from backend.store.database import Database, upsert
from backend.store.tables import Lease, now

log = logging.getLogger(__name__)

LEASE_SECONDS = 15.0  # a killed holder blocks the others for so long


class LeaseLost(Exception):
    """Someone else took over while we were stopped or cut off; what we were doing is theirs now."""


class HeldLease:
    """A lease in our hands, renewed by a thread of its own."""

    def __init__(self, database: Database, name: str, owner: str, seconds: float) -> None:
        self._database, self._name, self._owner, self._seconds = database, name, owner, seconds
        self._released = threading.Event()
        self._lost = False
        self._thread = threading.Thread(target=self._renew, name=f"lease {name}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Call before each thing that must not be done twice.

        Raises:
            LeaseLost: the lease ran out and is no longer ours.
        """
        if self._lost:
            raise LeaseLost(f"the lease {self._name!r} was taken over by another worker")

    def release(self) -> None:
        """Give the lease back."""
        self._released.set()
        self._thread.join()
        with self._database.write() as session:
            session.execute(delete(Lease).where(Lease.name == self._name, Lease.owner == self._owner))

    def _renew(self) -> None:
        while not self._released.wait(self._seconds / 4):
            try:
                with self._database.write() as session:
                    renewed = session.execute(
                        update(Lease)
                        .where(Lease.name == self._name, Lease.owner == self._owner)
                        .values(until=now() + timedelta(seconds=self._seconds))
                    )
                    self._lost = renewed.rowcount == 0  # type: ignore[attr-defined]
            except Exception:
                log.exception("could not renew the lease %s; trying again", self._name)


@contextmanager
def lease(database: Database, name: str, seconds: float = LEASE_SECONDS) -> Iterator[HeldLease | None]:
    """Hold the lease `name` during the block; gives None at once where someone else holds it."""
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    with database.write() as session:
        current = session.scalar(select(Lease).where(Lease.name == name).with_for_update())
        if current and current.until > now() and not _holder_is_dead(current.owner):
            yield_none = True
        else:
            yield_none = False
            row = {"name": name, "owner": owner, "until": now() + timedelta(seconds=seconds)}
            upsert(session, Lease, [row])
    if yield_none:
        yield None
        return
    held = HeldLease(database, name, owner, seconds)
    try:
        yield held
    finally:
        held.release()


def holder(database: Database, name: str) -> str | None:
    """Who holds the lease now (host:process:…), if anyone."""
    with database.read() as session:
        current = session.get(Lease, name)
        if current is None or current.until <= now() or _holder_is_dead(current.owner):
            return None
        return current.owner


def _holder_is_dead(owner: str) -> bool:
    """A process of this very machine that no longer runs; saves waiting for its lease to end."""
    host, process, _ = owner.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
