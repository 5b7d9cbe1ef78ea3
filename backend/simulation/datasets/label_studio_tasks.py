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
from backend.simulation.datasets.contents import Example
from backend.simulation.datasets.errors import DatasetError, MissingImage
from backend.simulation.datasets.images import ENOUGH_PIXELS, ImageSource
from backend.targets import ChoiceTarget


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


def example_of(
    task_id: int,
    data: Mapping[str, Any],
    meta: Mapping[str, Any],
    annotations: Sequence[Mapping[str, Any]],
    control: Control,
    image: Callable[[str, int], ImageSource],
) -> Example | None:
    """A task with the votes of its annotators; None: nobody has labeled it.

    image: from the image's address in the task's data, and the task, to the image.
    Raises MissingImage where it has no image.
    """
    target = read_target(annotations, control)
    if not isinstance(target, ChoiceTarget):
        return None
    source = LabelingConfig((control,)).image_source(data)
    if source is None:
        raise MissingImage(f"Task {task_id} has no image: its data lacks {control.image_key!r}.")
    return Example(image(source, task_id), target.votes, metadata(data, meta, control.image_key))
