"""The step decide: whether to recommend that labeling stops, and on what evidence."""

from typing import Any

from backend.settings import LoopSettings


def recommend_stop(
    settings: LoopSettings, labels: int, pool: int, measured: dict[str, Any] | None
) -> str | None:
    """A sentence that recommends to stop, with its evidence; None: go on.

    measured: what `evaluate` found on the audit tasks, with its 95 % `interval`.
    """
    if pool == 0 and labels:
        return "every task is labeled"
    if settings.budget and labels >= settings.budget:
        return f"the budget of {settings.budget} labels is used up"
    if settings.target_accuracy and measured and measured["interval"][0] >= settings.target_accuracy:
        return (
            f"accuracy on {measured['total']} audit tasks is {measured['accuracy']:.1%}, surely above "
            f"{measured['interval'][0]:.1%}: the target of {settings.target_accuracy:.1%} is reached"
        )
    return None
