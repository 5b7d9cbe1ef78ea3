"""The log: one line for each thing that happened, as text or as JSON, with the project and the round it is about.

What a line is about stands in the context, not in its message: whoever begins to work on a project says so once.
"""

import json
import logging
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

from redis.exceptions import RedisError

from backend.printable import printable, printable_lines

LogFormat = Literal["text", "json"]

TOLD_EVERY = 10.0  # seconds

_about: ContextVar[Mapping[str, int]] = ContextVar("about", default={})  # noqa: B039 (nobody changes it in place)


@contextmanager
def about(**numbers: int) -> Iterator[None]:
    """What this thread logs in the block is about that `project`, and that `round` of it (its number)."""
    token = _about.set({**_about.get(), **numbers})
    try:
        yield
    finally:
        _about.reset(token)


def begin_request(**numbers: int) -> None:
    """What this thread logs from now on is about that; a request has no block that also holds its errors."""
    _about.set(numbers)


def subject() -> Mapping[str, int]:
    """What this thread's lines are about: `project` and `round`, as far as known."""
    return _about.get()


def moment(record: logging.LogRecord) -> datetime:
    """When it was logged, in UTC."""
    return datetime.fromtimestamp(record.created, UTC)


class TextFormatter(logging.Formatter):
    """`2026-01-31 12:00:00,000 INFO backend.loop.round: [project 3, round 7] fit took 2.10 s`.

    A message is one line, whatever it quotes. What an error quotes may have several: those of a traceback are indented.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        """The line, without a traceback."""
        record.message = printable(record.message)
        if numbers := subject():
            record.message = f"[{', '.join(f'{k} {v}' for k, v in numbers.items())}] {record.message}"
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """The traceback."""
        return textwrap.indent(printable_lines(super().formatException(ei)), "  ")


class JsonFormatter(logging.Formatter):
    """An object a line: time, level, logger, message; project, round and traceback where there are any."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, object] = {
            "time": moment(record).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **subject(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return printable(json.dumps(line, ensure_ascii=False))


class RedisOutages(logging.Filter):
    """Of a Redis that is away, each thread of a worker would tell twice a second, with a traceback."""

    def __init__(self) -> None:
        super().__init__()
        self._told = -TOLD_EVERY

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log it; in a line, now and then."""
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, RedisError):
            return True
        if time.monotonic() - self._told < TOLD_EVERY:
            return False
        self._told = time.monotonic()
        record.msg, record.args = "%s Redis cannot be used; trying again: %s", (record.getMessage(), error)
        record.exc_info = None
        return True


def set_up(level: str, log_format: LogFormat) -> None:
    """Have this process log to stderr from `level` on; does nothing where logging is set up already."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    # By the handler, not by our loggers: a round's own log holds more than a quiet deployment shows.
    handler.setLevel(level)
    handler.addFilter(RedisOutages())
    logging.basicConfig(level=level, handlers=[handler])
    ours = logging.getLogger("backend")
    ours.setLevel(min(logging.INFO, logging.getLogger().level))
    # One line a request would bury what the loop says.
    for chatty in ("httpx", "huey", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # It tells with a traceback of each connection that can't even be closed, because the database is away.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
