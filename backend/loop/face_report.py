"""What tells the people of a project apart: a report for people, made when somebody asks for it."""

from collections.abc import Callable
from typing import cast

import numpy as np
from PIL.Image import Image

from backend.deployment import Deployment
from backend.labelstudio.control import Control
from backend.labelstudio.labeling_config import read_labeling_config
from backend.learners.faces import FaceRecogniser, FeatureReport, face_crops, feature_report
from backend.learners.faces.in_boxes import NamedFaceFinder
from backend.learners.learner import LabeledImages
from backend.loop.learning import TRAINING_SIDE, embed_as, labeled_sets, learner_of, was_trained
from backend.loop.rounds import served_round
from backend.store.tables import Round
from backend.targets import BoxTarget, ChoiceTarget


class NoFaces(Exception):
    """There is nothing to report on; the message says why and what to do."""


def report_on_faces(deployment: Deployment, project_id: int) -> FeatureReport:
    """What separates the people who are hardest to tell apart, by the served model and all labeled faces.

    Raises NoFaces, and MediaError or MediaUnavailable where an image cannot be had.
    """
    served = served_round(deployment, project_id)
    if served is None:
        raise NoFaces(
            f"Project {project_id} has no model yet: `active-learning status` tells what it waits for."
        )
    asked = [one for one in read_labeling_config(served.label_config).controls if one.task == "face"]
    if not asked:
        raise NoFaces(
            f'Project {project_id} asks for nobody\'s name: write model_task="face" on the control that does.'
        )
    trained = [one for one in asked if was_trained(served, one)]
    if not trained:
        raise NoFaces(
            f"Project {project_id} has no model of faces yet: `active-learning status` tells what it waits for."
        )
    recogniser, faces = _labeled_faces(deployment, served, trained[0])
    embed = embed_as(deployment, served)
    embeddings = np.concatenate([embed([faces.load(place)]) for place in range(len(faces))])
    try:
        return feature_report(recogniser, embeddings, faces, embed)
    except ValueError as error:
        raise NoFaces(f"{str(error)[0].upper()}{str(error)[1:]}.") from None


def _labeled_faces(
    deployment: Deployment, served: Round, control: Control
) -> tuple[FaceRecogniser, LabeledImages]:
    """The recogniser, and every face that has a name."""
    learner = learner_of(deployment, served, control)
    loads: list[Callable[[], Image]] = []
    names = []
    for part in labeled_sets(deployment, served.project_id, served.facts, control):
        for task_id, source, target in zip(part.task_ids.tolist(), part.sources, part.targets, strict=True):

            def load(source: str = source, task_id: int = task_id) -> Image:
                return deployment.media.image(source, task_id, at_least=TRAINING_SIDE)

            if isinstance(target, BoxTarget):
                for box in target.boxes:
                    loads.append(lambda load=load, box=box: face_crops(load(), [box])[0])  # type: ignore[misc]
                    names.append(ChoiceTarget({box.label: 1.0}, 1, False))
            elif isinstance(target, ChoiceTarget):
                loads.append(load)
                names.append(target)
    recogniser = (
        learner.recogniser if isinstance(learner, NamedFaceFinder) else cast("FaceRecogniser", learner)
    )
    return recogniser, LabeledImages(lambda place: loads[place](), names)
