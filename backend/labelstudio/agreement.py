"""Of several annotators' answers, the one that the others agree with most."""

from collections.abc import Callable, Sequence
from typing import TypeVar

Answer = TypeVar("Answer")


def medoid(answers: Sequence[Answer], similarity: Callable[[Answer, Answer], float]) -> tuple[Answer, float]:
    """The answer with the greatest mean similarity to the others, and that mean; the first of equals.

    answers: at least one; alone, its agreement is 1. similarity: symmetric, in [0, 1].
    """
    if len(answers) == 1:
        return answers[0], 1.0
    totals = [0.0] * len(answers)
    for i, one in enumerate(answers):
        for j in range(i):
            agreed = similarity(one, answers[j])
            totals[i] += agreed
            totals[j] += agreed
    best = max(range(len(answers)), key=lambda i: totals[i])
    return answers[best], totals[best] / (len(answers) - 1)
