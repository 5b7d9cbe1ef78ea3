"""Facts as rows of a table."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

NOTHING = "–"


def shown_round(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """A round: number and state, when, labels, what was measured, why and how long."""
    steps = ", ".join(f"{step} {seconds:.1f}" for step, seconds in facts["seconds"].items())
    told = [facts["reason"], steps, facts["error"]]
    return (
        f"{facts['number']} {facts['state']}",
        datetime.fromisoformat(facts["started"]).astimezone().strftime("%Y-%m-%d %H:%M"),
        NOTHING if facts["labels"] is None else str(facts["labels"]),
        "\n".join(_measured(name, one, facts["measured"]) for name, one in facts["measured"].items())
        or NOTHING,
        "\n".join(line for line in told if line),
    )


def _measured(name: str, one: Mapping[str, Any] | None, controls: Mapping[str, Any]) -> str:
    which = f"{name}: " if len(controls) > 1 else ""
    if one is None:
        return which + NOTHING
    low, high = one["interval"]
    return f"{which}{one['score']:.1%} ({low:.0%} to {high:.0%})"


def shown_entry(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """A place in the queue: rank, task, published or not, prediction, why."""
    return (
        str(facts["rank"]),
        f"#{facts['task']}",
        "window" if facts["published"] else "reserve",
        _prediction(facts["prediction"]),
        facts["reason"],
    )


def _prediction(prediction: Mapping[str, Any] | None) -> str:
    """The classes or names in it, with how often each is there, and how sure the learner is."""
    if not prediction:
        return NOTHING
    labels = [name if count == 1 else f"{name} × {count}" for name, count in prediction["labels"].items()]
    return f"{', '.join(labels) or 'nothing'} ({prediction['confidence']:.0%})"
