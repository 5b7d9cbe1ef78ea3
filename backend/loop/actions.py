"""What people do to the loop of a project from outside Label Studio: pause it, go back, change its settings."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import update

from backend.deployment import Deployment
from backend.labelstudio.labeling_config import read_labeling_config
from backend.loop.events import note_settings
from backend.loop.registration import backends_at
from backend.loop.rounds import rounds_with_models, served_round, start_round, unfinished_round
from backend.loop.steps import STEPS
from backend.settings import LoopSettings
from backend.store.leases import lease
from backend.store.tables import Project, Round

A_LOOK = 5.0  # seconds; workers hold the lease of the rounds also while they look whether one is due


class NotPossible(Exception):
    """What was asked for cannot be done now; the message says why, and what can be done."""


def set_paused(deployment: Deployment, project_id: int, paused: bool) -> None:
    """While a loop is paused, no round trains by itself; labels are noted, and the queue goes on being served."""
    with deployment.database.write() as session:
        session.execute(update(Project).where(Project.id == project_id).values(paused=paused))


def earlier_models(deployment: Deployment, project_id: int) -> list[Round]:
    """The rounds whose models can be served again, newest first, without the one that is served."""
    served = served_round(deployment, project_id)
    if served is None:
        return []
    return [
        one
        for one in rounds_with_models(deployment, project_id)
        if one.id != served.id and not _why_not_again(one, served)
    ]


def roll_back(deployment: Deployment, project_id: int, number: int) -> Round:
    """Serve the model of an earlier round again: a round ranks and publishes by it, and the loop is paused.

    Raises NotPossible where that model is gone or no longer fits, or another round is under way.
    """
    served = served_round(deployment, project_id)
    kept = rounds_with_models(deployment, project_id)
    chosen = next((one for one in kept if one.number == number), None)
    if served is None or chosen is None:
        raise NotPossible(
            f"Round {number} has no model that could be served: it has trained none, or its files were deleted, as "
            "only those of the last rounds are kept. Nothing was changed."
        )
    if problem := _why_not_again(chosen, served):
        raise NotPossible(
            f"The model of round {number} cannot be served again: {problem}. Nothing was changed."
        )
    wait = 0.0 if unfinished_round(deployment, project_id) else A_LOOK
    with lease(deployment.database, f"round:{project_id}", wait=wait) as held:
        if held is None or unfinished_round(deployment, project_id) is not None:
            raise NotPossible("A round is under way. Roll back when it is done; nothing was changed.")
        set_paused(deployment, project_id, True)
        reason = f"someone went back to the model of round {number}"
        return start_round(deployment, project_id, reason, next(iter(STEPS)), chosen.version)


def _why_not_again(chosen: Round, served: Round) -> str | None:
    if chosen.facts.get("embedder") != served.facts.get("embedder"):
        return "it works on embeddings that have been replaced since"
    if chosen.label_config != served.label_config:
        return "the labeling config has changed since"
    return None


def change_settings(deployment: Deployment, project: Project, changes: Mapping[str, Any]) -> LoopSettings:
    """Write settings into the extra params of our backend in Label Studio, and have a round follow them.

    changes: new values by the setting's name; None takes one back to its default. Returns what then holds.

    Raises:
        InvalidSettings: a value cannot be used.
        NotPossible: the labeling config, which wins, sets one of them.
        LabelStudioError: Label Studio cannot be reached or refuses.
    """
    config = read_labeling_config(project.label_config)
    if fixed := sorted(set(changes) & set(config.settings)):
        raise NotPossible(
            f"The labeling config sets {', '.join(fixed)}, and it wins: change model_{fixed[0]} there. "
            "Nothing was changed."
        )
    merged = {**project.extra_params, **changes}
    extra_params = {name: value for name, value in merged.items() if value is not None}
    settings = LoopSettings.resolve(config.settings, extra_params)
    if extra_params == project.extra_params:
        return settings
    registered = backends_at(deployment, project.id, project.backend_url)
    if not registered:
        raise NotPossible(
            "Label Studio no longer has the backend in this project: run `active-learning connect --project "
            f"{project.id}`. Nothing was changed."
        )
    deployment.label_studio.set_extra_params(project.id, registered[0], extra_params)
    with deployment.database.write() as session:
        note_settings(session, project.id, extra_params)
    return settings
