"""The lines that a round keeps of its worker's log."""

import logging
import threading

import pytest

from backend.logs import about
from backend.loop.round_log import FIRST_LINES, LAST_LINES, LEFT_OUT, LONGEST_LINE, round_log
from backend.store.tables import Round

log = logging.getLogger("backend.loop.steps")


def a_round(project_id: int = 3, number: int = 7, before: str = "") -> Round:
    return Round(project_id=project_id, number=number, log=before)


@pytest.fixture(autouse=True)
def _informative() -> None:
    logging.getLogger("backend").setLevel(logging.INFO)


def test_a_line_has_its_time_and_what_is_worse_than_information_its_level() -> None:
    log.info("before")
    with round_log(a_round()) as lines:
        log.debug("too much")
        log.info("fit digit: %d labels", 40)
        log.warning("two\nlines\0")
        try:
            raise OSError("disk full")
        except OSError:
            log.exception("the step %s failed", "fit")
    log.info("after")
    texts = lines.text.splitlines()
    assert [text[21:] for text in texts] == [
        "fit digit: 40 labels",
        "WARNING two lines",
        "ERROR the step fit failed: OSError: disk full",
    ]
    for text in texts:
        assert text[4] == text[7] == "-"
        assert text[19:21] == "Z "


def test_lines_of_another_round_and_of_another_thread_are_not_its() -> None:
    with round_log(a_round()) as lines:
        with about(project=4, round=7):
            log.info("another project's")
        thread = threading.Thread(target=log.info, args=("of no known round",))
        thread.start()
        thread.join()
        with round_log(a_round(project_id=4)) as others:
            log.info("theirs")
        log.info("ours")
    assert lines.text.endswith("Z ours")
    assert len(lines.text.splitlines()) == 1
    assert others.text.endswith("Z theirs")


def test_a_worker_that_goes_on_with_a_round_goes_on_with_its_log() -> None:
    with round_log(a_round()) as first:
        log.info("one")
    with round_log(a_round(before=first.text)) as second:
        log.info("two")
    assert [line[21:] for line in second.text.splitlines()] == ["one", "two"]


def test_of_a_long_log_the_first_and_the_last_lines_are_kept() -> None:
    text = ""
    for start in (0, 150):  # two workers
        with round_log(a_round(before=text)) as lines:
            for number in range(start, start + 150):
                log.info("%d %s", number, "x" * 1_000)
        text = lines.text
    kept = text.splitlines()
    assert len(kept) == FIRST_LINES + LAST_LINES
    assert kept[FIRST_LINES] == LEFT_OUT
    numbers = [int(line.split()[2]) for line in kept if line != LEFT_OUT]
    assert numbers == [*range(FIRST_LINES), *range(300 - LAST_LINES + 1, 300)]
    assert max(map(len, kept)) == LONGEST_LINE + 21
