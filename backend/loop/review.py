"""Looking back on a round once it is done: likely label errors, and what random order would have reached.

Neither is needed to rank, so no round waits for them; a worker works them out when no round runs or is due.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from backend.deployment import Deployment
from backend.labelstudio.control import Control
from backend.labelstudio.labeling_config import read_labeling_config
from backend.learners.learner import Answers, EmbeddingLearner, Learner
from backend.learners.tasks import looks_at_pixels
from backend.loop.answering import answers_about
from backend.loop.label_errors import Said, find_label_errors
from backend.loop.learning import LabeledSet, control_facts, labeled_sets, learner_of, was_trained
from backend.loop.random_order import estimate_random_order, read_random_sample, untold
from backend.loop.rounds import served_round, unfinished_round
from backend.loop.triggers import due
from backend.settings import LoopSettings
from backend.store.leases import lease
from backend.store.tables import Project, ProjectState, Round, RoundState

log = logging.getLogger(__name__)

PIXEL_SAMPLE = 200  # validation tasks judged by a learner that has to look at them
PIXEL_CHUNK = 16  # of them, looked at before asking whether a round is due


class RoundFirst(Exception):
    """A round runs or is due, or the loop has ended: the review is left for later."""


def to_review(deployment: Deployment, project_id: int) -> Round | None:
    """The round that is served, where something of its review is missing; None: nothing is, or a round is under way."""
    served = served_round(deployment, project_id)
    if served is None or served.state != RoundState.DONE or not served.trained:
        return None
    if unfinished_round(deployment, project_id) is not None:
        return None
    return served if any(_missing(served, control) for control in _trained(served)) else None


def review(deployment: Deployment, project_id: int) -> None:
    """Work out what is missing and add it to the served round's facts of each control.

    A deployment does one review at a time, so that the other threads of its workers are free for rounds. Where a round
    is due, it is left; the next look at the project takes it up again. Raises LeaseLost.
    """
    with lease(deployment.database, "review") as held:
        served = to_review(deployment, project_id)
        if held is None or served is None:
            return

        def proceed() -> None:
            held.check()
            if _round_goes_first(deployment, served):
                raise RoundFirst

        try:
            proceed()
            for control in _trained(served):
                for name in _missing(served, control):
                    _note(
                        deployment,
                        served,
                        control,
                        name,
                        _work_out(name, deployment, served, control, proceed),
                    )
        except RoundFirst:
            log.info("the review of round %d waits: a round goes first", served.number)


def _trained(served: Round) -> list[Control]:
    return [one for one in read_labeling_config(served.label_config).controls if was_trained(served, one)]


def _missing(served: Round, control: Control) -> list[str]:
    """Names of the facts that are to be worked out, the quick ones first."""
    known = control_facts(served, control)
    return [name for name in FIGURES if name not in known]


def _round_goes_first(deployment: Deployment, served: Round) -> bool:
    with deployment.database.read() as session:
        project = session.get(Project, served.project_id)
    if project is None or project.state != ProjectState.ACTIVE or project.published_round != served.id:
        return True
    settings = LoopSettings.resolve(read_labeling_config(project.label_config).settings, project.extra_params)
    return bool(unfinished_round(deployment, project.id) or due(deployment, project, settings))


def _work_out(
    name: str, deployment: Deployment, served: Round, control: Control, proceed: Callable[[], None]
) -> dict[str, Any]:
    """A figure of the review; where it fails, facts that say so."""
    work_out, otherwise = FIGURES[name]
    try:
        return work_out(deployment, served, control, proceed)
    except RoundFirst:
        raise
    except Exception:
        proceed()  # a round that began meanwhile may have removed what was needed
        log.exception("the review of round %d failed at %s", served.number, name)
        return otherwise


def _label_errors(
    deployment: Deployment, served: Round, control: Control, proceed: Callable[[], None]
) -> dict[str, Any]:
    settings = _settings(deployment, served, control)
    training, validation = labeled_sets(deployment, served.project_id, served.facts, control)
    learner = learner_of(deployment, served, control)
    said = _said_of(deployment, served, control, learner, validation, proceed)
    return find_label_errors(control, settings, training, validation, said, served.number, proceed)


def _said_of(
    deployment: Deployment,
    served: Round,
    control: Control,
    learner: Learner,
    validation: LabeledSet,
    proceed: Callable[[], None],
) -> Said:
    """What the learner says of the validation set; of a part, where it has to look at the images."""
    ids = validation.task_ids
    if not looks_at_pixels(control):
        return Said(*answers_about(deployment, served, control, learner, ids), learner.classes)
    found, parts = [], list[Answers]()
    for start in range(0, min(len(ids), PIXEL_SAMPLE), PIXEL_CHUNK):
        proceed()
        chunk = ids[start : min(start + PIXEL_CHUNK, PIXEL_SAMPLE)]
        looked_at, answers = answers_about(deployment, served, control, learner, chunk)
        if answers is not None:
            found.append(looked_at)
            parts.append(answers)
    if not parts:
        return Said(np.empty(0, np.int64), None, learner.classes)
    return Said(np.concatenate(found), type(parts[0]).concatenate(parts), learner.classes)


def _random_order(
    deployment: Deployment, served: Round, control: Control, proceed: Callable[[], None]
) -> dict[str, Any]:
    if looks_at_pixels(control):
        return untold(
            "What random order would have reached cannot be estimated for models that look at the images themselves;"
            " `active-learning simulate` tells it for labeled images."
        )
    training, validation = labeled_sets(deployment, served.project_id, served.facts, control)
    return estimate_random_order(
        control,
        _settings(deployment, served, control),
        cast("EmbeddingLearner", learner_of(deployment, served, control)),
        int(control_facts(served, control)["training"]),
        read_random_sample(deployment, served, training, validation),
        validation,
        served.number,
        proceed,
    )


def _settings(deployment: Deployment, served: Round, control: Control) -> LoopSettings:
    with deployment.database.read() as session:
        extra_params = session.get_one(Project, served.project_id).extra_params
    return LoopSettings.resolve(control.settings, extra_params)


def _note(deployment: Deployment, served: Round, control: Control, name: str, facts: dict[str, Any]) -> None:
    with deployment.database.write() as session:
        row = session.get(Round, served.id)
        if row is not None:
            controls = row.facts["controls"]
            known = {**controls.get(control.name, {}), name: facts}
            row.facts = {**row.facts, "controls": {**controls, control.name: known}}


Figure = Callable[[Deployment, Round, Control, Callable[[], None]], dict[str, Any]]

FIGURES: Mapping[str, tuple[Figure, dict[str, Any]]] = {
    "label_errors": (_label_errors, {"judged": 0, "found": 0, "errors": []}),
    "random_order": (
        _random_order,
        untold("What random order would have reached could not be estimated; the worker's log says why."),
    ),
}
