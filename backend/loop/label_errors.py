"""Likely label errors: answers of annotators that a learner which was not trained on them firmly contradicts.

An answer is firmly contradicted where another has `ODDS` times its probability. Confident learning (Northcutt, Jiang &
Chuang 2021, doi:10.1613/jair.1.12125), which compares probabilities with their means by class, finds some more errors,
but with few labels it accuses far more correct ones: of 100 labels of Fashion-MNIST of which 3 are wrong, it is right
in one accusation of ten, this in seven. Whoever is sent to look at correct labels soon looks no more.

Training labels are judged by learners that were trained on the others, in folds; audit tasks and ground truth by the
learner that is served, which never saw them. Learners that look at the images take too long for folds: there it is only
audit tasks and ground truth that are judged, by which classes are anywhere in the image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from backend.labelstudio.control import Control
from backend.learners.evaluation import LEAST_PROBABILITY
from backend.learners.learner import Answers, EmbeddingLearner
from backend.learners.tasks import (
    Examples,
    class_shares,
    fit_learner,
    has_several_classes,
    known_classes,
    looks_at_pixels,
    why_untrainable,
)
from backend.loop.learning import LabeledSet
from backend.settings import LoopSettings

FOLDS = 5
FEWEST_OF_CLASS = 5  # labels of a class, without which nobody can tell that an image is not of it
ODDS = 40.0  # of what a learner says against what annotators say
MOST_KEPT = 100


@dataclass(frozen=True)
class Said:
    """What a learner says of tasks: their ids (n,), its answers (None: there are none), and the classes it knows."""

    task_ids: NDArray[np.int64]
    answers: Answers | None
    classes: tuple[str, ...]


@dataclass(frozen=True)
class _Judged:
    """Labels and what was said of them out of sample: ids (n,), vote shares and probabilities (n, classes)."""

    task_ids: NDArray[np.int64]
    shares: NDArray[np.float32]
    probabilities: NDArray[np.float64]


@dataclass(frozen=True)
class _Contradiction:
    """given, said: in words. probability: of what is said. odds: of that against what is given."""

    task: int
    given: str
    said: str
    probability: float
    odds: float

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "given": self.given,
            "said": self.said,
            "probability": self.probability,
            "sentence": (
                f"Annotators say {self.given}; the model, which was not trained on this answer, says {self.said}"
                f" ({_percent(self.probability)})."
            ),
        }


def find_label_errors(
    control: Control,
    settings: LoopSettings,
    training: LabeledSet,
    validation: LabeledSet,
    served: Said,
    seed: int,
    proceed: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """The labels of a control that are likely wrong, as facts that can be written as JSON.

    Args:
        control: what is asked.
        settings: the project's; they say what kind of learner is trained on the folds.
        training: the training set.
        validation: audit tasks and ground truth.
        served: what the served learner says of them.
        seed: the same gives the same errors.
        proceed: called before each training; whatever it raises ends the search.

    Returns `judged`, how many labels were looked at, `found`, how many are likely wrong, and `errors`, the firmest
    first, at most `MOST_KEPT`: each with `task` (its id), `given` and `said` (in words), `probability` (of what is
    said) and a `sentence`.
    """
    classes = known_classes(control, [*training.targets, *validation.targets])
    parts = [_judge_validation(classes, validation, served)]
    if not looks_at_pixels(control):
        parts.append(_judge_training(control, settings, classes, training, seed, proceed))
    judged = _Judged(
        np.concatenate([part.task_ids for part in parts]),
        np.concatenate([part.shares for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
    )
    several = has_several_classes(control)
    found = (_contradicted_presence if several else _contradicted_choice)(judged, classes)
    found.sort(key=lambda error: (-error.odds, error.task))
    return {
        "judged": len(judged.task_ids),
        "found": len(found),
        "errors": [error.to_json() for error in found[:MOST_KEPT]],
    }


def _judge_training(
    control: Control,
    settings: LoopSettings,
    classes: tuple[str, ...],
    training: LabeledSet,
    seed: int,
    proceed: Callable[[], None],
) -> _Judged:
    """By learners that were trained on the other folds."""
    shares = class_shares(training.targets, classes)
    probabilities = np.full(shares.shape, np.nan)
    fold = _folds(shares, np.random.default_rng(seed))
    for held_out in (fold == number for number in range(FOLDS)):
        learnt = [target for target, out in zip(training.targets, held_out, strict=True) if not out]
        if not held_out.any() or why_untrainable(control, learnt, settings.minimum_labels) is not None:
            continue
        proceed()
        examples = Examples(training.embeddings[~held_out], _no_image, learnt, _embeds_nothing)
        learner = cast("EmbeddingLearner", fit_learner(control, examples, settings, seed))
        said = learner.answers(training.embeddings[held_out])
        probabilities[held_out] = _mean(said, learner.classes, classes)
    judged = ~np.isnan(probabilities).any(axis=1)
    return _Judged(training.task_ids[judged], shares[judged], probabilities[judged])


def _judge_validation(classes: tuple[str, ...], validation: LabeledSet, served: Said) -> _Judged:
    """By the served learner."""
    if served.answers is None:
        return _Judged(
            np.empty(0, np.int64), np.empty((0, len(classes)), np.float32), np.empty((0, len(classes)))
        )
    target_of = dict(zip(validation.task_ids.tolist(), validation.targets, strict=True))
    shares = class_shares([target_of[task_id] for task_id in served.task_ids.tolist()], classes)
    return _Judged(served.task_ids, shares, _mean(served.answers, served.classes, classes))


def _mean(answers: Answers, known: tuple[str, ...], classes: tuple[str, ...]) -> NDArray[np.float64]:
    """(n, classes) the mean of a committee; 0 for a class that it does not know."""
    mean = answers.pool_fields()["committee"].mean(axis=0, dtype=np.float64)
    places = {name: place for place, name in enumerate(classes)}
    found = np.zeros((len(mean), len(classes)))
    for place, name in enumerate(known):
        if name in places:
            found[:, places[name]] = mean[:, place]
    return found


def _folds(shares: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.int64]:
    """(n,) the fold of each label; each has its part of every class."""
    fold = np.empty(len(shares), np.int64)
    fold[np.lexsort((rng.random(len(shares)), shares.argmax(axis=1)))] = np.arange(len(shares)) % FOLDS
    return fold


def _contradicted_choice(judged: _Judged, classes: tuple[str, ...]) -> list[_Contradiction]:
    """Where another class is far likelier than the one that annotators chose; a tie of theirs is no answer."""
    shares, probabilities = judged.shares, judged.probabilities
    given, said, rows = shares.argmax(axis=1), probabilities.argmax(axis=1), np.arange(len(shares))
    clear = (shares == shares.max(axis=1, keepdims=True)).sum(axis=1) == 1
    enough = np.bincount(given[clear], minlength=len(classes)) >= FEWEST_OF_CLASS
    odds = probabilities[rows, said] / np.maximum(probabilities[rows, given], LEAST_PROBABILITY)
    return [
        _Contradiction(
            int(judged.task_ids[row]),
            classes[given[row]],
            classes[said[row]],
            float(probabilities[row, said[row]]),
            float(odds[row]),
        )
        for row in np.flatnonzero(clear & enough[given] & (odds >= ODDS))
    ]


def _contradicted_presence(judged: _Judged, classes: tuple[str, ...]) -> list[_Contradiction]:
    """Where a class is firmly seen that annotators say is not there, or the reverse; of a task the firmest of them."""
    shares, probabilities = judged.shares, judged.probabilities
    given_present, given_absent = shares > 0.5, shares < 0.5
    known = np.minimum(given_present.sum(axis=0), given_absent.sum(axis=0)) >= FEWEST_OF_CLASS
    chance = np.where(given_present, 1 - probabilities, probabilities)  # that annotators are wrong
    odds = chance / np.maximum(1 - chance, LEAST_PROBABILITY)
    wrong = known & (given_present | given_absent) & (odds >= ODDS)
    found = []
    for row in np.flatnonzero(wrong.any(axis=1)):
        place = int(np.where(wrong[row], odds[row], 0).argmax())
        words = classes[place], f"no {classes[place]}"
        given, said = words if given_present[row, place] else words[::-1]
        task = int(judged.task_ids[row])
        found.append(_Contradiction(task, given, said, float(chance[row, place]), float(odds[row, place])))
    return found


def _percent(share: float) -> str:
    """Never rounded up to certainty."""
    return "over 99 %" if share > 0.99 else f"{100 * share:.0f} %"


def _no_image(place: int) -> Image:
    raise LookupError("learners of embeddings do not look at images")


def _embeds_nothing(images: Sequence[Image]) -> NDArray[np.float32]:
    raise LookupError("learners of embeddings do not look at images")
