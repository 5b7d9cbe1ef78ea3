"""Label Studio's tasks → labeled images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from backend.labelstudio.client import LabelStudioUnavailable
from backend.labelstudio.labeling_config import Control, LabelingConfig
from backend.labelstudio.media import MediaError, MediaFetcher, MediaUnavailable
from backend.labelstudio.metadata import metadata
from backend.labelstudio.results import read_target
from backend.simulation.datasets.class_names import in_natural_order
from backend.simulation.datasets.contents import Contents, Example
from backend.simulation.datasets.errors import DatasetError, MissingImage
from backend.simulation.datasets.images import ENOUGH_PIXELS, ImageSource
from backend.simulation.datasets.truths import Given
from backend.targets import ChoiceTarget, VisionTask, votes_of


@dataclass(frozen=True, slots=True)
class TaskImage:
    """An image that is fetched as the loop fetches it: safely, and once, as long as the cache keeps it.

    `load` also raises LabelStudioUnavailable, which is no image's fault.
    """

    media: MediaFetcher
    source: str
    task_id: int

    def look(self, labeled: tuple[int, int] | None) -> None:
        """Fetching it would not be a little cost."""

    def load(self) -> Image.Image:
        try:
            return self.media.image(self.source, self.task_id, at_least=ENOUGH_PIXELS)
        except MediaError as error:
            raise DatasetError(str(error)) from None
        except MediaUnavailable as error:
            raise LabelStudioUnavailable(str(error)) from None

    def identity(self) -> bytes:
        return f"{self.task_id}\0{self.source}\0".encode()


def control_for(config: LabelingConfig, task: VisionTask) -> Control:
    """The first control that is asked for a task; people's names may be choices, too.

    Raises DatasetError where there is none.
    """
    for control in config.controls:
        if control.task == task:
            return control
    if task == "face":
        for control in config.controls:
            if control.task == "classification" and not control.multiple:
                return control
    asked = " and ".join(dict.fromkeys(control.task for control in config.controls))
    raise DatasetError(f"The labeling config asks for nothing that is learned by {task}, but for {asked}.")


def example_of(
    task_id: int,
    data: Mapping[str, Any],
    meta: Mapping[str, Any],
    annotations: Sequence[Mapping[str, Any]],
    control: Control,
    image: Callable[[str, int], ImageSource],
) -> Example | None:
    """A task with what its annotators said; None: nobody has labeled it.

    image: from the image's address in the task's data, and the task, to the image.
    Raises MissingImage where it has no image.
    """
    target = read_target(annotations, control)
    if target is None:
        return None
    source = LabelingConfig((control,)).image_source(data)
    if source is None:
        raise MissingImage(f"Task {task_id} has no image: its data lacks {control.image_key!r}.")
    found, fields = image(source, task_id), metadata(data, meta, control.image_key)
    if isinstance(target, ChoiceTarget):
        return Example(found, target.votes, fields)
    return Example(found, votes_of(target), fields, truth=Given(target))


def contents_of(
    examples: Sequence[Example], broken: Sequence[str], control: Control, task: VisionTask
) -> Contents:
    """What was found in the tasks. The classes are the config's, or those that occur where it lists none.

    Raises DatasetError for faces where an image may show several people.
    """
    if task == "face" and control.boxes is not None:
        raise DatasetError(
            f"{control.name!r} names the people in boxes, of which an image may have several: cut them out to images "
            "of one face each."
        )
    found = {label for example in examples for label in example.labels}
    classes = [*control.classes, *in_natural_order(found.difference(control.classes))]
    return Contents(examples, classes, control.multiple, broken)
