import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, precision_score, recall_score

from backend.learners.evaluation import accuracy_interval, evaluate

COUNTS = ("actual", "predicted", "correct")


def test_interval_matches_published_values():
    # Newcombe 1998, table I, method 3.
    assert accuracy_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert accuracy_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert accuracy_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert accuracy_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


@given(st.integers(0, 400), st.integers(0, 400))
def test_interval_holds_the_proportion(a, b):
    low, high = accuracy_interval(a, a + b)
    assert 0 <= low <= high <= 1
    assert a + b == 0 or low <= a / (a + b) <= high


def test_interval_is_wider_with_more_confidence_and_fewer_tasks():
    low, _ = accuracy_interval(80, 100)
    assert accuracy_interval(80, 100, 0.99)[0] < low < accuracy_interval(800, 1000)[0]
    with pytest.raises(ValueError, match="3 of 2"):
        accuracy_interval(3, 2)


def test_single_label_agrees_with_sklearn():
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(4), 200)
    truth = np.array([generator.choice(4, p=p) for p in probabilities])
    result = evaluate(probabilities, np.eye(4)[truth], ("a", "b", "c", "d"), multi_label=False)
    predicted = probabilities.argmax(1)
    assert result.total == 200
    assert result.score == (predicted == truth).mean()
    assert result.interval == accuracy_interval(int((predicted == truth).sum()), 200)
    assert result.details["log loss"] == pytest.approx(log_loss(truth, probabilities))
    assert [c["score"] for c in result.classes] == pytest.approx(recall_score(truth, predicted, average=None))
    assert [c["precision"] for c in result.classes] == pytest.approx(
        precision_score(truth, predicted, average=None)
    )


def test_multi_label_counts_a_task_only_if_every_class_is_right():
    probabilities = np.array([[0.9, 0.2], [0.9, 0.2], [0.4, 0.6]])
    targets = np.array([[1.0, 0.0], [1.0, 1.0], [0.5, 1.0]])
    result = evaluate(probabilities, targets, ("dog", "cat"), multi_label=True)
    assert (result.score, result.total) == (2 / 3, 3)
    dog, cat = result.classes
    assert [dog[name] for name in COUNTS] == [2, 2, 2]  # the tied vote agrees with the prediction
    assert [cat[name] for name in COUNTS] == [2, 1, 1]
    assert result.details["log loss"] == pytest.approx(
        -np.mean(np.log([0.9, 0.8, 0.9, 0.2, (0.4 * 0.6) ** 0.5, 0.6])), rel=1e-6
    )


def test_a_tied_vote_is_right_either_way():
    targets = np.array([[0.5, 0.5, 0.0]] * 3)
    probabilities = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
    result = evaluate(probabilities, targets, ("a", "b", "c"), multi_label=False)
    assert result.score == 2 / 3
    assert [c["actual"] for c in result.classes] == [2, 1, 0]


def test_json_is_plain_even_for_classes_never_seen_and_certain_mistakes():
    result = evaluate(
        np.array([[1.0, 0.0, 0.0]]), np.array([[0.0, 1.0, 0.0]]), ("a", "b", "c"), multi_label=False
    )
    read = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert read["score"] == 0 and read["details"]["log loss"] > 10
    assert read["classes"][2] == {
        "name": "c", "actual": 0, "predicted": 0, "correct": 0, "score": None, "precision": None
    }  # fmt: skip


def test_nothing_to_evaluate_and_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="no task"):
        evaluate(np.empty((0, 2)), np.empty((0, 2)), ("a", "b"), multi_label=False)
    with pytest.raises(ValueError, match="must both be"):
        evaluate(np.ones((1, 3)), np.ones((1, 2)), ("a", "b"), multi_label=False)
