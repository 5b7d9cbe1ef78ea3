"""What a check is: a question about the deployment, and what was found."""

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from enum import StrEnum

CHECK_SECONDS = 20.0  # for one check; what it waits for has shorter limits of its own where it can


class Verdict(StrEnum):
    """How it stands."""

    FINE = "fine"
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True)
class Finding:
    """What a check found, in a sentence, and how to mend it, in another; empty where there is nothing to do."""

    verdict: Verdict
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Check:
    """One thing that can be wrong.

    area: what it belongs to, as a heading.
    look: finds out; changes nothing.
    """

    area: str
    name: str
    look: Callable[[], Finding]


def fine(found: str) -> Finding:
    return Finding(Verdict.FINE, found)


def warning(found: str, remedy: str) -> Finding:
    return Finding(Verdict.WARNING, found, remedy)


def broken(found: str, remedy: str) -> Finding:
    return Finding(Verdict.BROKEN, found, remedy)


def told(error: Exception, verdict: Verdict = Verdict.BROKEN) -> Finding:
    """An error of ours: "what happened. What to do.", or "what happened: what to do"."""
    happened, _, remedy = str(error).partition(". ")
    if not remedy:
        happened, _, remedy = happened.partition(": ")
    return Finding(verdict, f"{happened.rstrip('.')}.", remedy[:1].upper() + remedy[1:])


def carry_out(check: Check, secrets: Collection[str], seconds: float = CHECK_SECONDS) -> Finding:
    """Look, for so long at the most, and whatever happens; none of the secrets is in what is told."""
    found: list[Finding] = []

    def look() -> None:
        try:
            found.append(check.look())
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            found.append(broken(f"It could not be checked: {reason}", "Look at what it says, and ask again."))

    thread = threading.Thread(target=look, name=f"doctor: {check.name}", daemon=True)
    thread.start()
    thread.join(seconds)
    if not found:
        return broken(
            f"No answer within {seconds:.0f} s.", "Look at what it asks: it hangs, or is overloaded."
        )
    return replace(found[0], found=_hidden(found[0].found, secrets), remedy=_hidden(found[0].remedy, secrets))


def _hidden(text: str, secrets: Collection[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "…")
    return text
