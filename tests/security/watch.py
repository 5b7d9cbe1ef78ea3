"""What holds for every input: it is answered in time, and leaves nothing behind."""

import faulthandler
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST = 20.0  # seconds for one input; far more than any needs, on a busy machine as well
INPUTS = {  # how many each kind is given in a run of the tests
    "results": 24_000,
    "labeling configs": 12_000,
    "brushes": 36_000,
    "bitmasks": 8_000,
    "taxonomies": 9_000,
    "specs": 600,
    "settings": 400,
    "references": 10_000,
    "images": 6_000,
    "requests": 4_000,
}
GROWTH = 64 << 20  # bytes that a run may leave behind: caches and fragments, not inputs


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def forget_peak() -> None:
    """Have `peak` tell of what is held from now on."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """The most bytes of memory that this process has held since `forget_peak`."""
    held = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert held
    return int(held[1]) << 10


@contextmanager
def no_hang() -> Iterator[None]:
    """Ends the test run with a traceback where the block takes too long, even in native code."""
    faulthandler.dump_traceback_later(LONGEST, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@contextmanager
def within(seconds: float, megabytes: int) -> Iterator[None]:
    """The block takes no longer, on a busy machine as well, and at no time more memory."""
    forget_peak()
    before, began = resident(), time.monotonic()
    yield
    took, more = time.monotonic() - began, peak() - before
    assert took < seconds, f"{took:.1f} s"
    assert more < megabytes << 20, f"{more >> 20} MiB more"


def run(one: Callable[[int], None], inputs: int) -> None:
    """Give so many inputs; after the first quarter, which warms up, memory must not grow."""
    warm_up = inputs // 4
    for number in range(warm_up):
        with no_hang():
            one(number)
    before = resident()
    for number in range(warm_up, inputs):
        with no_hang():
            one(number)
    assert resident() - before < GROWTH, f"{(resident() - before) >> 20} MiB more after {inputs} inputs"
