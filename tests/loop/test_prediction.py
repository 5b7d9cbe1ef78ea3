"""What several controls show of an image together."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.labelstudio.control import Control
from backend.labelstudio.labeling_config import read_labeling_config
from backend.loop.prediction import Shown, _predict
from backend.store.tables import Round
from backend.targets import Box, BoxTarget, Prediction

CONFIG = """<View><Image name="image" value="$image"/>
<RectangleLabels name="objects" toName="image"><Label value="Face"/>{others}</RectangleLabels>
<TextArea name="who" toName="image" perRegion="true" whenLabelValue="Face" model_task="face"/></View>"""
FOUND = {
    "objects": (Box("Face", 0.1, 0.1, 0.2, 0.2), Box("Car", 0.5, 0.5, 0.9, 0.9)),
    "who": (Box("Ann", 0.1, 0.1, 0.2, 0.2),),
}


@dataclass
class Told:
    """Says the same of every image. asked: the control."""

    asked: Control

    def prediction(self, position: int) -> Prediction:
        boxes = FOUND[self.asked.name]
        return Prediction(BoxTarget(boxes), [0.9] * len(boxes), 0.9, size=(100, 100))


def shown(others: str, *trained: str) -> Shown:
    """What is shown of an image by the learners of the controls that were trained."""
    facts: dict[str, Any] = {"controls": {name: {"trained": True} for name in trained}}
    learned = Round(project_id=1, number=1, version="v", reason="", step="publish", facts=facts)
    config = read_labeling_config(CONFIG.format(others=others))

    def ask(control: Control, _: Any) -> Any:
        return np.array([7]), Told(control)

    return _predict(learned, config, lambda _: None, ask)[7]  # type: ignore[arg-type, return-value]


def rectangles(of: Shown) -> list[str]:
    return [label for one in of.result for label in one["value"].get("rectanglelabels", ())]


def test_a_face_is_shown_once_with_its_name_and_other_objects_too() -> None:
    both = shown('<Label value="Car"/>', "objects", "who")
    assert sorted(rectangles(both)) == ["Car", "Face"]
    assert [one["value"]["text"] for one in both.result if one["type"] == "textarea"] == [["Ann"]]
    assert rectangles(shown("", "objects", "who")) == ["Face"]


def test_before_anybody_is_known_faces_are_shown_as_objects() -> None:
    assert rectangles(shown('<Label value="Car"/>', "objects")) == ["Face", "Car"]
