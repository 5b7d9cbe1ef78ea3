"""Tasks that a person should look at: likely label errors, disagreements, images that cannot be read."""

from collections.abc import Mapping
from typing import Any

from backend.store.tables import Round

MOST = 100  # tasks that a list shows


def label_errors(served: Round | None) -> tuple[list[Mapping[str, Any]], int]:
    """Labels that the committee firmly contradicts, and how many labels were looked at; see loop/label_errors."""
    controls = served.facts.get("controls", {}) if served else {}
    found = [facts["label_errors"] for facts in controls.values() if facts.get("label_errors")]
    return [error for one in found for error in one["errors"]], sum(one["judged"] for one in found)


def disagreements(served: Round | None) -> list[int]:
    """Tasks on which the annotators do not agree."""
    return list(served.facts.get("disagreements") or [])[:MOST] if served else []
