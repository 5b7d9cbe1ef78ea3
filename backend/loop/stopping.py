"""The step decide: whether to recommend that labeling stops, and on what evidence."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from backend.deployment import Deployment
from backend.labelstudio.control import Control
from backend.learners.learner import Answers, Learner
from backend.learners.tasks import has_several_classes, looks_at_pixels
from backend.learners.weights import DamagedWeights
from backend.loop.answering import answers_about
from backend.loop.learning import learner_of, was_trained
from backend.loop.rounds import served_round
from backend.settings import LoopSettings
from backend.store.tables import Round
from strategies.stopping import Progress, agreement, criterion, residual_uncertainty

POOL_SAMPLE = 2_000  # images of the pool on which successive models are compared
PIXEL_SAMPLE = 200  # where the learner has to look at them
FACTS = ("labels", "pool", "controls")  # of a round: all that its progress is read from


def recommend_stop(
    deployment: Deployment, current: Round, controls: Sequence[Control], settings: LoopSettings
) -> str | None:
    """A clause that recommends to stop, with its evidence; None: go on, as long as any control gains by it."""
    told = (
        select(*(Round.facts[name].label(name) for name in FACTS))
        .where(
            Round.project_id == current.project_id,
            Round.number < current.number,
            Round.published_at.is_not(None),
            Round.label_config == current.label_config,
        )
        .order_by(Round.number)
    )
    with deployment.database.read() as session:
        earlier = [row._asdict() for row in session.execute(told)]
    found: dict[str, None] = {}
    for control in controls:
        history = by_labels(progress(facts, control) for facts in (*earlier, current.facts))
        evidence = criterion(settings.stopping).evidence(history)
        if evidence is None:
            return None
        found[evidence] = None
    return "; ".join(found) or None


def by_labels(rounds: Iterable[Progress]) -> list[Progress]:
    """One for each number of labels: how it stood last, and how the first of its models agreed with the one before.

    A round without new labels trains the same model again, whose agreement with itself tells nothing.
    """
    history: list[Progress] = []
    for one in rounds:
        if history and history[-1].labels == one.labels:
            one = replace(one, agreement=history.pop().agreement)
        history.append(one)
    return history


def progress(facts: Mapping[str, Any], control: Control) -> Progress:
    """What a round's facts tell of how labeling stands, as far as one control goes."""
    of_control = (facts.get("controls") or {}).get(control.name, {})
    measured = of_control.get("measured")
    return Progress(
        labels=facts.get("labels") or 0,
        pool=facts.get("pool") or 0,
        accuracy=measured and measured["score"],
        interval=measured and tuple(measured["interval"]),
        agreement=of_control.get("agreement"),
        uncertainty=of_control.get("uncertainty"),
    )


def compare_on_pool(
    deployment: Deployment,
    current: Round,
    control: Control,
    learner: Learner | None,
    task_ids: NDArray[np.int64],
    answers: Answers | None,
) -> dict[str, float | None]:
    """How much a round's answers agree with those of the round before, and how unsure they are.

    task_ids: candidates in random order, of which the first are looked at. answers: about them, where there are any.
    """
    nothing: dict[str, float | None] = {"agreement": None, "uncertainty": None}
    if learner is None:
        return nothing
    sample = task_ids[: PIXEL_SAMPLE if looks_at_pixels(control) else POOL_SAMPLE]
    if answers is None:
        sample, answers = answers_about(deployment, current, control, learner, sample)
    if answers is None or not len(sample):
        return nothing
    answers = answers.take(np.arange(len(sample)))
    probabilities, several = _probabilities(answers), has_several_classes(control)
    kappa = None
    before = _learner_before(deployment, current, control)
    if before is not None and before.classes == learner.classes:
        found, earlier = answers_about(deployment, current, control, before, sample)
        if earlier is not None and len(found) == len(sample):  # all could be read again
            kappa = agreement(_decided(probabilities, several), _decided(_probabilities(earlier), several))
    return {"agreement": kappa, "uncertainty": residual_uncertainty(probabilities, multi_label=several)}


def _probabilities(answers: Answers) -> NDArray[np.float64]:
    """(images, classes), the mean of the committee."""
    mean: NDArray[np.float64] = answers.pool_fields()["committee"].mean(axis=0, dtype=np.float64)
    return mean


def _learner_before(deployment: Deployment, current: Round, control: Control) -> Learner | None:
    """The learner of the round that is served, where it was trained on the same embeddings and is still there."""
    served = served_round(deployment, current.project_id)
    if served is None or served.id == current.id or not was_trained(served, control):
        return None
    if any(served.facts.get(name) != current.facts.get(name) for name in ("embedder", "learner_dimensions")):
        return None
    try:
        return learner_of(deployment, served, control)
    except (FileNotFoundError, DamagedWeights):
        return None


def _decided(probabilities: NDArray[Any], several: bool) -> NDArray[Any]:
    return probabilities >= 0.5 if several else probabilities.argmax(axis=1)
