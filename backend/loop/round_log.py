"""The log of a round: what its worker said while it ran, kept with the round for whoever looks at it later."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from backend.logs import about, moment, subject
from backend.store.tables import Round

FIRST_LINES, LAST_LINES = 100, 100  # that are kept of a longer log
LONGEST_LINE = 500  # characters
LEFT_OUT = "…"


class RoundLog(logging.Handler):
    """Collects a round's lines; each begins with its time in UTC.

    The lines are in memory until the round notes that a step is done or has failed. Those that a killed worker
    logged in the step it was at are lost.
    """

    def __init__(self, current: Round) -> None:
        super().__init__(logging.INFO)
        self._about = {"project": current.project_id, "round": current.number}
        self._lines = current.log.splitlines()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line, if it is this round's: other threads of the process run rounds of other projects."""
        if subject() != self._about:
            return
        message = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:  # the traceback is in the worker's log
            message += f": {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        message = " ".join(message.replace("\0", "").split())[:LONGEST_LINE]  # PostgreSQL stores no NUL
        level = "" if record.levelno == logging.INFO else f"{record.levelname} "
        self._lines.append(f"{moment(record):%Y-%m-%d %H:%M:%S}Z {level}{message}")
        if len(self._lines) > FIRST_LINES + LAST_LINES:
            self._lines[FIRST_LINES:-LAST_LINES] = []
            self._lines[FIRST_LINES] = LEFT_OUT

    @property
    def text(self) -> str:
        """All lines so far, those of earlier workers first."""
        return "\n".join(self._lines)


@contextmanager
def round_log(current: Round) -> Iterator[RoundLog]:
    """Collect what this thread logs in the block, INFO and above, as the round's."""
    log, ours = RoundLog(current), logging.getLogger("backend")
    ours.addHandler(log)
    try:
        with about(project=current.project_id, round=current.number):
            yield log
    finally:
        ours.removeHandler(log)
