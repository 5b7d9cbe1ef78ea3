"""The labeled tasks of a live Label Studio project: what would the loop have saved there?

LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY say where it is, as for the loop.
"""

import re
from functools import partial

from backend.deployment import Deployment
from backend.labelstudio.labeling_config import read_labeling_config
from backend.settings import Settings
from backend.simulation.datasets.contents import Contents
from backend.simulation.datasets.errors import DatasetError, MissingImage
from backend.simulation.datasets.label_studio_tasks import (
    TaskImage,
    contents_of,
    control_for,
    example_of,
)
from backend.targets import VisionTask

PREFIX = "project:"


def read(source: str, task: VisionTask) -> Contents:
    """The labeled tasks of the project, as `project:3`, with what their annotators said.

    Raises:
        DatasetError: no number follows the prefix, nothing is asked for `task`, or nothing is labeled.
        UnsupportedConfig: the labeling config holds nothing that the loop can learn.
        LabelStudioError: the project cannot be read.
    """
    number = source.removeprefix(PREFIX)
    if not re.fullmatch(r"\d{1,9}", number, re.ASCII):
        raise DatasetError(f"{source} names no project: write {PREFIX} and its number, as in its URL.")
    deployment = Deployment(Settings())
    project = deployment.label_studio.project(int(number))
    control = control_for(read_labeling_config(project.label_config), task)
    examples, broken = [], []
    for each in deployment.label_studio.tasks(project.id):
        try:
            example = example_of(
                each.id, each.data, each.meta, each.annotations, control, partial(TaskImage, deployment.media)
            )
        except MissingImage as reason:
            broken.append(str(reason))
            continue
        if example is not None:
            examples.append(example)
    if not examples and not broken:
        raise DatasetError(
            f"No task of project {number} is labeled with {control.name!r} yet: label some in Label Studio."
        )
    return contents_of(examples, broken, control, task)
