"""What random order would have reached: an estimate of the labels that the loop has saved.

Nobody labeled in random order, and tasks that a strategy chose are no random sample. But the whole pool is embedded,
and the audit tasks are a random sample with true labels. So learners of the same kind, the students, are trained on
images drawn at random, labeled by the annotators where they did and by the present learner, the teacher, where they did
not; the audit tasks measure them.

Students inherit the teacher's mistakes. So they only crawl up to its score, which true labels would let them pass: the
number of labels with which they are as good would flatter the loop several times over. Two things mend it. What would
be reached if all that the teacher says were true, a student's agreement with it, is known as well; a share of the way
there is taken. And the number of labels is read from a power law, error = a · labels^-b, that is fit where students are
still well below their teacher. Share, fit, audit tasks and students are drawn anew in many repetitions, which make the
interval.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from sqlalchemy import select

from backend.deployment import Deployment
from backend.labelstudio.control import Control
from backend.learners.evaluation import answered_right
from backend.learners.learner import EmbeddingLearner
from backend.learners.tasks import Examples, class_shares, fit_learner, why_untrainable
from backend.loop.audit import shuffled
from backend.loop.embedders import learner_columns
from backend.loop.learning import LabeledSet
from backend.settings import LoopSettings
from backend.store.ids import read_ids
from backend.store.tables import Round, Task
from backend.targets import ChoiceTarget, Target

FEWEST_VALIDATION = 10  # tasks, without which the present score is not known at all
DRAWN_FROM = 4_000  # images of the pool, drawn at random themselves
STUDENTS = 3  # learners trained with each number of labels
FURTHEST = 4  # times the present labels, up to which the power law is believed
# What the power law is fit to, in present labels; each end in every second repetition. With as many labels as now the
# teacher's mistakes hardly show yet, with twice as many there is less to guess.
FITTED_FROM, FITTED_TO = 1 / 4, (1, 2)
# By how much the logarithm of the labels was off, as standard deviation, in trials in which the score was known well:
# up to 1.9 times too high with 60 labels, up to 45 % too low with 400.
MODEL_ERROR = 0.3
LEAST_ERROR, MOST_LOG_LABELS = 1e-6, 50.0  # keep logarithms and exponentials finite
# Share of the way from what a student reaches to what it would with a teacher who is always right.
LEAST_SHARE, LARGEST_SHARE = 0.0, 0.5
REPETITIONS = 1_000
INVENTED = 0.25  # weight of each invented audit task, see `_repeat`
CONFIDENCE = 0.95


@dataclass(frozen=True)
class RandomSample:
    """Images drawn at random from all tasks but those that measure.

    embeddings: (n, d), the learner's. targets: what annotators said, None where they did not.
    tasks: how many there are to draw from.
    """

    embeddings: NDArray[np.float32]
    targets: Sequence[Target | None]
    tasks: int


def read_random_sample(
    deployment: Deployment, learned: Round, training: LabeledSet, validation: LabeledSet
) -> RandomSample:
    """The random sample of the pool that a round knows."""
    query = select(Task.id).where(
        Task.project_id == learned.project_id,
        Task.embedded == learned.facts["embedder"],
        Task.broken.is_(None),
        ~Task.audit,
    )
    with deployment.database.read() as session:
        ids = np.setdiff1d(read_ids(session, query), validation.task_ids)
    drawn = shuffled(learned.project_id, ids)[:DRAWN_FROM]
    found, vectors = deployment.embeddings.read(learned.project_id, learned.facts["embedder"], drawn.tolist())
    target_of = dict(zip(training.task_ids.tolist(), training.targets, strict=True))
    return RandomSample(
        vectors[:, learner_columns(learned.facts)],
        [target_of.get(task_id) for task_id in found.tolist()],
        len(ids),
    )


def estimate_random_order(
    control: Control,
    settings: LoopSettings,
    learner: EmbeddingLearner,
    labels: int,
    sample: RandomSample,
    validation: LabeledSet,
    seed: int,
    proceed: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """What random order would have reached, as facts that can be written as JSON.

    Args:
        control: what is asked; its learner works on embeddings.
        settings: the project's; they say what kind of learner is trained.
        learner: the present one.
        labels: that it was trained on.
        sample: what is drawn from.
        validation: audit tasks and ground truth.
        seed: the same gives the same estimate.
        proceed: called before each training; whatever it raises ends the estimate.

    Returns `points` (`labels`, `score`, `low`, `high`), `random_labels` and `saved` (`estimate`, `low`, `high`; None
    where they cannot be told; a bound that is None lies further than `FURTHEST` times the present labels), and a
    `sentence` for people. Audit tasks are not counted as labels.
    """
    if len(validation) < FEWEST_VALIDATION:
        return untold(
            f"{len(validation)} audit tasks are labeled; with {FEWEST_VALIDATION} it can be estimated what random order"
            " would have needed."
        )
    curve = _train_students(control, settings, learner, labels, sample, validation, seed, proceed)
    if len(curve.sizes) < 2:
        return untold("There are too few labels yet to estimate what random order would have needed.")
    rng = np.random.default_rng(seed)
    present, scores = _repeat(curve, rng)
    off = rng.lognormal(0, MODEL_ERROR, REPETITIONS)
    bounds = [(1 - CONFIDENCE) / 2, 0.5, (1 + CONFIDENCE) / 2]
    points = [
        {"labels": size, "score": score, "low": low, "high": high}
        for size, (low, score, high) in zip(
            curve.sizes, np.quantile(scores, bounds, axis=0).T.tolist(), strict=True
        )
    ]
    needed = _labels_needed(curve.sizes, scores, present, labels, sample.tasks, off)
    low, middle, high = np.quantile(needed, bounds, method="nearest").tolist()
    return {"points": points, **_told(labels, low, middle, high)}


@dataclass(frozen=True)
class _Students:
    """sizes: how many images each was trained on. right: (sizes, students, validation) whether it is right there.

    agreement: (sizes, students) share of the sample on which it says what its teacher says. present: (validation,)
    whether the present learner is right.
    """

    sizes: list[int]
    right: NDArray[np.bool_]
    agreement: NDArray[np.float64]
    present: NDArray[np.bool_]


def _train_students(
    control: Control,
    settings: LoopSettings,
    learner: EmbeddingLearner,
    labels: int,
    sample: RandomSample,
    validation: LabeledSet,
    seed: int,
    proceed: Callable[[], None],
) -> _Students:
    several = control.multiple
    taught = _answers(learner, sample.embeddings, several)
    targets = [known or told for known, told in zip(sample.targets, taught, strict=True)]
    sizes, right, agreement = [], [], []
    for size in _sizes(labels, settings.minimum_labels, len(targets)):
        rights, agreements = [], []
        for student in range(STUDENTS):
            draw = np.random.default_rng((seed, size, student)).permutation(len(targets))[:size]
            learnt = [targets[place] for place in draw]
            if why_untrainable(control, learnt, settings.minimum_labels) is not None:
                continue
            proceed()
            examples = Examples(sample.embeddings[draw], _no_image, learnt, _embeds_nothing)
            fitted = cast("EmbeddingLearner", fit_learner(control, examples, settings, seed + student))
            rights.append(_right(fitted, validation.embeddings, validation.targets, several))
            agreements.append(_right(fitted, sample.embeddings, targets, several).mean())
        if len(rights) == STUDENTS:
            sizes.append(size)
            right.append(rights)
            agreement.append(agreements)
    present = _right(learner, validation.embeddings, validation.targets, several)
    return _Students(sizes, np.array(right, bool), np.array(agreement), present)


def _sizes(labels: int, fewest: int, most: int) -> list[int]:
    """Twice the present labels, as many, half as many …, ascending."""
    sizes, size = [], 2.0 * labels
    while size >= fewest:
        sizes.append(min(most, round(size)))
        size /= 2
    return sorted(set(sizes))


def _repeat(curve: _Students, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The present score (repetitions,) and those of random order (repetitions, sizes), as they might be in truth.

    By a Bayesian bootstrap (Rubin 1981) of audit tasks and students. Beside the tasks stand four invented ones, each
    a quarter as heavy: one that everybody gets right, one that nobody does, one that only the present learner does,
    and one that only students do. So a few tasks on which all are right are not taken for certainty.
    """
    tasks = len(curve.present)
    weights = rng.dirichlet(np.concatenate([np.ones(tasks), np.full(4, INVENTED)]), REPETITIONS)
    by_task, (everybody, _, learner_only, students_only) = weights[:, :tasks], weights[:, tasks:].T
    by_student = rng.dirichlet(np.ones(curve.right.shape[1]), (REPETITIONS, len(curve.sizes)))
    share = rng.uniform(LEAST_SHARE, LARGEST_SHARE, (REPETITIONS, 1))
    present = by_task @ curve.present + everybody + learner_only
    of_students = (everybody + students_only)[:, None, None] + np.einsum("rt,nst->rns", by_task, curve.right)
    reached = (by_student * of_students).sum(axis=2)
    at_best = (by_student * curve.agreement).sum(axis=2)
    return present, reached + share * np.maximum(0, at_best - reached)


def _labels_needed(
    sizes: Sequence[int],
    scores: NDArray[np.float64],
    present: NDArray[np.float64],
    labels: int,
    tasks: int,
    off: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(repetitions,) with how many labels the power law reaches the present score; infinite where it is too far off.

    off: (repetitions,) by what factor the estimate may be off. All tasks are always enough.
    """
    wanted = np.log(np.maximum(1 - present, LEAST_ERROR))
    by_fit = []
    for furthest in FITTED_TO:
        fitted = [FITTED_FROM <= 1.01 * size / labels <= 1.02 * furthest for size in sizes]
        errors = np.maximum(1 - scores[:, fitted], LEAST_ERROR)
        slope, intercept = np.polyfit(np.log(np.array(sizes)[fitted]), np.log(errors.T), 1)
        with np.errstate(divide="ignore"):
            log_labels = np.where(slope < 0, (wanted - intercept) / slope, np.inf)
        by_fit.append(np.exp(np.minimum(log_labels, MOST_LOG_LABELS)))
    turn = np.arange(len(present)) % len(FITTED_TO)
    needed = np.array(by_fit)[turn, np.arange(len(present))] * off
    needed = np.minimum(np.maximum(needed, sizes[0]), tasks)
    return np.where(needed > FURTHEST * labels, np.inf, needed)


def _told(labels: int, low: float, middle: float, high: float) -> dict[str, Any]:
    """The numbers, and what they say."""
    furthest = FURTHEST * labels
    if np.isfinite(low):
        about = f"about {middle:.0f}" if np.isfinite(middle) else f"more than {furthest}"
        upper = f"{high:.0f}" if np.isfinite(high) else f"more than {furthest}"
        needed = f"{about} training labels for the score that {labels} reached (95 %: {low:.0f} to {upper})"
    else:
        needed = f"more than {furthest} training labels for the score that {labels} reached"
    return {
        "random_labels": _interval(low, middle, high),
        "saved": _saved(labels, low, middle, high),
        "sentence": (
            f"Random order would have needed {needed}. It is an estimate, from models trained on random images that the"
            " present model labeled where annotators did not, and measured on the audit tasks."
        ),
    }


def _interval(low: float, middle: float, high: float) -> dict[str, int | None]:
    named = {"estimate": middle, "low": low, "high": high}
    return {name: round(value) if np.isfinite(value) else None for name, value in named.items()}


def _saved(labels: int, low: float, middle: float, high: float) -> dict[str, float | None]:
    """Shares of random order's labels; negative where the loop needs more."""
    named = {"estimate": middle, "low": low, "high": high}
    return {name: 1 - labels / value if np.isfinite(value) else None for name, value in named.items()}


def untold(why: str) -> dict[str, Any]:
    """The facts where nothing can be told. why: a sentence for people."""
    return {"points": [], "random_labels": None, "saved": None, "sentence": why}


def _answers(learner: EmbeddingLearner, embeddings: NDArray[np.float32], several: bool) -> list[ChoiceTarget]:
    """What a learner says of images, as an annotator would."""
    mean = learner.answers(embeddings).pool_fields()["committee"].mean(axis=0)
    chosen = mean >= 0.5 if several else np.eye(mean.shape[1], dtype=bool)[mean.argmax(axis=1)]
    return [
        ChoiceTarget({learner.classes[place]: 1.0 for place in np.flatnonzero(row)}, 1, several)
        for row in chosen
    ]


def _right(
    learner: EmbeddingLearner, embeddings: NDArray[np.float32], targets: Sequence[Target], several: bool
) -> NDArray[np.bool_]:
    """(n,) where a learner says what the targets say; what it does not know, it gets wrong."""
    mean = learner.answers(embeddings).pool_fields()["committee"].mean(axis=0)
    shares = class_shares(targets, learner.classes)
    return answered_right(mean, shares, several) & (several | shares.any(axis=1))


def _no_image(place: int) -> Image:
    raise LookupError("learners of embeddings do not look at images")


def _embeds_nothing(images: Sequence[Image]) -> NDArray[np.float32]:
    raise LookupError("learners of embeddings do not look at images")
