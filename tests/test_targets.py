"""What annotators said, and predictions in the same terms."""

import json

import pytest

from backend.targets import Bitmap, Box, BoxTarget, ChoiceTarget, MaskTarget, Polygon, Prediction, Target

POLYGON = Polygon("car", ((0.1, 0.2), (0.3, 0.2), (0.3, 0.9)))
TARGETS: list[Target] = [
    ChoiceTarget({"a": 0.75, "b": 0.25}, 4, False),
    ChoiceTarget({}, 2, True),
    BoxTarget((), 1, 1.0),
    BoxTarget((Box("a", 0.0, 0.25, 0.5, 1.0), Box("b", 0.1, 0.2, 0.3, 0.4)), 3, 0.5),
    MaskTarget((POLYGON, Bitmap(None, "11", 2, 1)), 640, 480, 2, 0.75),
]


@pytest.mark.parametrize("target", TARGETS)
def test_a_stored_target_is_read_back(target: Target) -> None:
    assert type(target).from_json(json.loads(json.dumps(target.to_json()))) == target


@pytest.mark.parametrize(
    ("target", "left"),
    [
        (ChoiceTarget({"a": 1.0, "gone": 1.0}, 1, True), ChoiceTarget({"a": 1.0}, 1, True)),
        (
            BoxTarget((Box("a", 0, 0, 1, 1), Box("gone", 0, 0, 1, 1))),
            BoxTarget((Box("a", 0, 0, 1, 1),)),
        ),
        (
            MaskTarget((Polygon("a", POLYGON.points), Polygon("gone", POLYGON.points)), 4, 3),
            MaskTarget((Polygon("a", POLYGON.points),), 4, 3),
        ),
    ],
)
def test_a_prediction_keeps_to_the_classes_there_are(target: Target, left: Target) -> None:
    prediction = Prediction(target, [0.9, 0.8], 0.7, size=(4, 3)).among({"a", "b"})
    assert prediction == Prediction(left, [0.9], 0.7, size=(4, 3))


def test_a_face_of_nobody_known_stays_in_its_box() -> None:
    nobody = BoxTarget((Box("", 0, 0, 1, 1),))
    assert Prediction(nobody, [0.6], 0.6).among({"a"}).target == nobody
