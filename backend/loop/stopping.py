"""The step decide: whether to recommend that labeling stops, and on what evidence."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from backend.deployment import Deployment
from backend.learners.committee import Committee
from backend.learners.weights import DamagedWeights
from backend.loop.embedding import learner_columns
from backend.loop.learning import committee_of
from backend.loop.rounds import served_round
from backend.settings import LoopSettings
from backend.store.tables import Round
from strategies.stopping import Progress, agreement, criterion, residual_uncertainty

POOL_SAMPLE = 2_000  # images of the pool on which successive models are compared


def recommend_stop(deployment: Deployment, current: Round, settings: LoopSettings) -> str | None:
    """A clause that recommends to stop, with its evidence; None: go on."""
    with deployment.database.read() as session:
        earlier = session.scalars(
            select(Round)
            .where(
                Round.project_id == current.project_id,
                Round.number < current.number,
                Round.published_at.is_not(None),
                Round.label_config == current.label_config,
            )
            .order_by(Round.number)
        ).all()
    return criterion(settings.stopping).evidence([progress(row.facts) for row in (*earlier, current)])


def progress(facts: Mapping[str, Any]) -> Progress:
    """What a round's facts tell of how labeling stands."""
    measured = facts.get("measured")
    return Progress(
        labels=facts.get("labels", 0),
        pool=facts.get("pool", 0),
        accuracy=measured and measured["accuracy"],
        interval=measured and tuple(measured["interval"]),
        agreement=facts.get("agreement"),
        uncertainty=facts.get("uncertainty"),
    )


def compare_on_pool(
    deployment: Deployment, current: Round, committee: Committee | None, candidates: NDArray[np.int64]
) -> dict[str, float | None]:
    """How much a round's predictions agree with those of the round before, and how unsure they are.

    candidates: task ids in random order, of which the first are looked at.
    """
    sample = candidates[:POOL_SAMPLE]
    if committee is None or not len(sample):
        return {"agreement": None, "uncertainty": None}
    _, vectors = deployment.embeddings.read(current.project_id, current.facts["embedder"], sample.tolist())
    vectors = vectors[:, learner_columns(current.facts)]
    probabilities = committee.probabilities(vectors).mean(axis=0, dtype=np.float64)
    before = _committee_before(deployment, current)
    kappa = None
    if before is not None and before.classes == committee.classes:
        earlier = before.probabilities(vectors).mean(axis=0)
        kappa = agreement(_decided(probabilities, committee), _decided(earlier, committee))
    return {
        "agreement": kappa,
        "uncertainty": residual_uncertainty(probabilities, multi_label=committee.multi_label),
    }


def _committee_before(deployment: Deployment, current: Round) -> Committee | None:
    """The learner of the round that is served, where it was trained on the same embeddings and is still there."""
    served = served_round(deployment, current.project_id)
    if served is None or not served.trained or served.id == current.id:
        return None
    if any(served.facts.get(name) != current.facts.get(name) for name in ("embedder", "learner_dimensions")):
        return None
    try:
        return committee_of(deployment, served)
    except (FileNotFoundError, DamagedWeights):
        return None


def _decided(probabilities: NDArray[Any], committee: Committee) -> NDArray[Any]:
    return probabilities >= 0.5 if committee.multi_label else probabilities.argmax(axis=1)
