"""The results in a few sentences, for a reader in a hurry."""

from collections.abc import Sequence

from backend.simulation.summary import RANDOM, LabelsToTarget, StrategySummary

MAIN_SHARE = 0.95  # of the full-data score

_VERDICTS = {
    "better": "significantly better than random",
    "worse": "significantly worse than random",
    "inconclusive": "but no difference from random is shown",
    "": "but one seed proves nothing",
}


def headline(summaries: Sequence[StrategySummary]) -> str:
    """Which strategy did best, what it saved, and which did harm."""
    others = [summary for summary in summaries if summary.strategy != RANDOM]
    if not others:
        return "Only the random baseline was run."
    best = max(others, key=lambda summary: summary.area.mean)
    assert best.gain is not None
    if best.gain.mean > 0:
        sentences = [f"{best.strategy} has the best curve, {_VERDICTS[best.verdict]}."]
    else:
        sentences = [f"No strategy has a better curve than random; {best.strategy} comes next."]
    sentences += [
        f"It reaches {MAIN_SHARE:.0%} of the full-data score with {target.labels:.0f} labels{_saved(target)}."
        for target in best.targets
        if target.share == MAIN_SHARE and target.labels is not None
    ]
    if worse := [summary.strategy for summary in others if summary.verdict == "worse"]:
        sentences.append(f"Significantly worse than random: {', '.join(worse)}.")
    return " ".join(sentences)


def _saved(target: LabelsToTarget) -> str:
    if target.saved is None:
        return ""
    share = target.saved.mean
    if share >= 0:
        told = f", {'at least ' if target.at_least else ''}{share:.0%} fewer than random"
    else:
        told = f", {'at most ' if target.at_least else ''}{-share:.0%} more than random"
    if target.saved.low is not None and target.saved.high is not None:
        told += f" (95% interval of the saving: {target.saved.low:.0%} to {target.saved.high:.0%})"
    return told
