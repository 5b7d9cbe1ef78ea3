"""What a round's committee says of each image that it looked at, in short: kept beside the model, for the map.

The queue keeps the answers about the few tasks that are published; the map shows all.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from backend.deployment import Deployment
from backend.labelstudio.control import Control
from backend.learners.learner import Answers, Learner
from backend.learners.tasks import has_several_classes
from backend.learners.weights import Arrays, DamagedWeights, load_weights, save_weights
from backend.loop.learning import learner_artifact
from backend.store.tables import Round
from strategies.uncertainty import entropy

FILE = "opinions.safetensors"
BLOCK = 50_000  # images
LEAST = 0.5  # probability with which a class is present, where an image may have several


class Opinions(NamedTuple):
    """Of images that the committee looked at: task ids (n,), ascending; what it thinks of each.

    uncertainty: (n,) entropy of the committee's mean, as a share of the most that is possible. likeliest: (n,) the
    position in `classes` of the likeliest class, or -1 where none is likely.
    """

    task_ids: NDArray[np.int64]
    uncertainty: NDArray[np.float16]
    likeliest: NDArray[np.int32]
    classes: tuple[str, ...]


def keep_opinions(
    deployment: Deployment,
    current: Round,
    control: Control,
    learner: Learner,
    task_ids: NDArray[np.int64],
    answers: Answers,
) -> None:
    """Keep what the learner of a round says of tasks. answers: one for each of `task_ids`."""
    several = has_several_classes(control)
    committee = answers.pool_fields()["committee"]
    uncertainty = np.zeros(len(task_ids), np.float16)
    likeliest = np.full(len(task_ids), -1, np.int32)
    # Of several classes, the mean of the entropies of yes and no; of one, that of all the classes.
    most = np.log(2 if several else max(2, len(learner.classes)))
    for start in range(0, len(task_ids) if committee.shape[2] else 0, BLOCK):
        mean = committee[:, start : start + BLOCK].mean(axis=0, dtype=np.float64)
        uncertainty[start : start + BLOCK] = entropy(mean, multi_label=several) / most
        likely = not several or mean.max(axis=1) >= LEAST
        likeliest[start : start + BLOCK] = np.where(likely, mean.argmax(axis=1), -1)
    order = np.argsort(task_ids)
    arrays: Arrays = {
        "task_ids": task_ids[order],
        "uncertainty": uncertainty[order],
        "likeliest": likeliest[order],
    }
    with deployment.artifacts.writing(opinions_artifact(current, control)) as folder:
        save_weights(folder / FILE, arrays, {"classes": list(learner.classes)})


def read_opinions(deployment: Deployment, learned: Round, control: Control) -> Opinions | None:
    """What the learner of a round said; None where it was not asked, or the file is gone."""
    try:
        folder = deployment.artifacts.reading(opinions_artifact(learned, control))
        arrays, description = load_weights(folder / FILE)
    except (FileNotFoundError, DamagedWeights):
        return None
    return Opinions(
        arrays["task_ids"], arrays["uncertainty"], arrays["likeliest"], tuple(description["classes"])
    )


def opinions_artifact(learned: Round, control: Control) -> str:
    """The key of the artifact that holds what a round said; no control's name has an @ in its key."""
    return f"{learner_artifact(learned, control)}@opinions"
