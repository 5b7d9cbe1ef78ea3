"""Figures of a face recogniser, worked out by hand."""

import numpy as np
import pytest

from backend.learners.evaluation import accuracy_interval
from backend.learners.faces import FaceAnswers, evaluate_faces
from tests.learners.faces import said


def answers(similarities: list[list[float]], degrees: list[float]) -> FaceAnswers:
    """degrees: where each face is on the unit circle."""
    table = np.array(similarities, np.float32)
    radians = np.radians(degrees)
    features = np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float16)
    return FaceAnswers(("anna", "bob"), 0.5, 10.0, table[None], table, features)


#                     right       right, unsure  wrong       stranger    stranger, accepted
SIMILARITIES = [[0.9, 0.1], [0.1, 0.4], [0.2, 0.8], [0.3, -0.2], [0.7, 0.0]]
TARGETS = [said("anna"), said("bob"), said("anna"), said("carl"), said("carl")]


def test_identification_in_an_open_set() -> None:
    found = evaluate_faces(answers(SIMILARITIES, [0, 90, 10, 200, 230]), TARGETS)
    assert (found.metric, found.total) == ("rank-1 identification", 5)
    assert found.score == pytest.approx(2 / 5)
    assert found.interval == accuracy_interval(2, 5)
    assert found.details["rank-1 among people known"] == pytest.approx(2 / 3)
    assert found.details["known recognised"] == pytest.approx(1 / 3)
    assert found.details["unknown recognised"] == pytest.approx(1 / 2)
    anna, bob = found.classes
    assert anna == {
        "name": "anna",
        "actual": 2,
        "predicted": 3,
        "correct": 1,
        "score": 0.5,
        "precision": 1 / 3,
    }
    assert bob == {"name": "bob", "actual": 1, "predicted": 2, "correct": 1, "score": 1.0, "precision": 0.5}


def test_verification_of_all_pairs() -> None:
    """Of ten pairs two are of the same person, 10 and 30 degrees apart; the nearest others are 80 and 90 apart."""
    details = evaluate_faces(answers(SIMILARITIES, [0, 90, 10, 200, 230]), TARGETS).details
    assert details["TAR at FAR 0.1"] is None  # a tenth of eight pairs is none
    assert details["TAR at FAR 0.01"] is None


def test_true_accepts_at_a_rate_of_false_ones() -> None:
    # Anna at 0 and 20, bob at 30 to 90 in five. Anna-bob pairs are 10, 25, 30, 40, 45, 55, 60, 70, 75 and 90 apart.
    degrees = [0, 20, 30, 45, 60, 75, 90]
    targets = [said("anna")] * 2 + [said("bob")] * 5
    found = evaluate_faces(answers([[1, 0]] * 7, degrees), targets)
    # One of ten may be accepted: what is nearer than the second, 25 degrees. Of eleven pairs of the same, anna's is,
    # and bob's four of neighbours.
    assert found.details["TAR at FAR 0.1"] == pytest.approx(5 / 11)
    assert found.details["TAR at FAR 0.01"] is None


def test_a_tie_is_right_for_either_side() -> None:
    tied = [said("anna", "bob"), said("bob", "carl"), said("carl", "dora")]
    found = evaluate_faces(answers([[0.9, 0.1], [0.9, 0.1], [0.1, 0.2]], [0, 90, 180]), tied)
    assert found.details["rank-1 among people known"] == 0.5
    assert found.details["unknown recognised"] == 1


def test_only_strangers_or_nobody_twice() -> None:
    found = evaluate_faces(answers([[0.9, 0.1], [0.1, 0.2]], [0, 90]), [said("carl"), said("dora")])
    assert (found.total, found.score) == (2, 0)
    assert found.details == {
        "rank-1 among people known": None,
        "known recognised": None,
        "unknown recognised": 0.5,
        "TAR at FAR 0.1": None,
        "TAR at FAR 0.01": None,
        "TAR at FAR 0.001": None,
    }
    assert [values["score"] for values in found.classes] == [None, None]


def test_what_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="got 0 for 0"):
        evaluate_faces(answers(SIMILARITIES, [0] * 5).take(np.empty(0, np.int64)), [])
    with pytest.raises(ValueError, match="got 1 for 5"):
        evaluate_faces(answers(SIMILARITIES, [0] * 5), [said("anna")])
