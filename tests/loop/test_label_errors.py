import numpy as np
import pytest
from sklearn.datasets import load_digits

from backend.labelstudio.labeling_config import read_labeling_config
from backend.learners.classification import HeadCommittee
from backend.learners.tasks import class_shares
from backend.loop.label_errors import Said, find_label_errors
from backend.loop.learning import LabeledSet
from backend.settings import LoopSettings
from backend.targets import ChoiceTarget
from tests.end_to_end.running_loop import digits_config

DIGITS = tuple("0123456789")
(CONTROL,) = read_labeling_config(digits_config()).controls
SETTINGS = LoopSettings(members=2)
LABELS = 400
NOTHING = Said(np.empty(0, np.int64), None, DIGITS)


@pytest.fixture(scope="module")
def digits():
    """Pixels stand for embeddings, in random order."""
    images, digit = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    return images[order].astype(np.float32), digit[order]


def one(digit):
    return ChoiceTarget({str(digit): 1.0}, 1, False)


def labeled(embeddings, targets):
    """Tasks with the ids 1000, 1001, …"""
    ids = 1000 + np.arange(len(targets))
    groups = tuple({} for _ in targets)
    return LabeledSet(ids, ("",) * len(targets), embeddings, embeddings, tuple(targets), groups)


def nobody(embeddings):
    return labeled(embeddings[:0], [])


def flipped(truth, share, seed=0):
    """The labels, and which of them are wrong."""
    rng = np.random.default_rng(seed)
    wrong = rng.permutation(len(truth))[: round(share * len(truth))]
    given = truth.copy()
    given[wrong] = (given[wrong] + rng.integers(1, 10, len(wrong))) % 10
    return given, set(wrong.tolist())


def test_flipped_labels_are_found_and_hardly_any_other(digits):
    given, wrong = flipped(digits[1][:LABELS], 0.05)
    training = labeled(digits[0][:LABELS], [one(digit) for digit in given])
    found = find_label_errors(CONTROL, SETTINGS, training, nobody(digits[0]), NOTHING, 0)
    tasks = [error["task"] - 1000 for error in found["errors"]]
    assert found["judged"] == LABELS
    assert found["found"] == len(tasks) == len(set(tasks))
    assert len(wrong.intersection(tasks)) >= 0.5 * len(wrong)
    assert len(wrong.intersection(tasks)) >= 0.8 * len(tasks)
    for error in found["errors"]:
        assert error["given"] == str(given[error["task"] - 1000]) != error["said"]
        assert f"say {error['given']};" in error["sentence"]


def test_audit_tasks_are_judged_by_the_served_learner(digits):
    images, truth = digits
    learner = HeadCommittee.fit(
        images[:200], class_shares([one(d) for d in truth[:200]], DIGITS), DIGITS, seed=0
    )
    given, wrong = flipped(truth[200:400], 0.05)
    audit = labeled(images[200:400], [one(digit) for digit in given])
    said = Said(audit.task_ids, learner.answers(audit.embeddings), DIGITS)
    found = find_label_errors(CONTROL, SETTINGS, nobody(images), audit, said, 0)
    tasks = {error["task"] - 1000 for error in found["errors"]}
    assert len(wrong & tasks) >= 4
    assert len(tasks - wrong) <= 1


def test_a_class_with_few_labels_is_not_accused(digits):
    """Of the only two nines, each is judged by a learner that has seen but one."""
    images, truth = digits
    nines = np.flatnonzero(truth[:LABELS] == 9)
    kept = np.setdiff1d(np.arange(LABELS), nines[2:])
    training = labeled(images[kept], [one(digit) for digit in truth[kept]])
    found = find_label_errors(CONTROL, SETTINGS, training, nobody(images), NOTHING, 0)
    assert "9" not in [error["given"] for error in found["errors"]]


def test_a_tie_of_the_annotators_is_no_answer(digits):
    images, truth = digits
    targets = [one(digit) for digit in truth[:LABELS]]
    wrong = {str((truth[0] + 1) % 10): 0.5, str((truth[0] + 2) % 10): 0.5}
    targets[0] = ChoiceTarget(wrong, 2, False)
    found = find_label_errors(
        CONTROL, SETTINGS, labeled(images[:LABELS], targets), nobody(images), NOTHING, 0
    )
    assert 1000 not in [error["task"] for error in found["errors"]]


def test_of_several_classes_each_is_a_question_of_its_own(digits):
    (control,) = read_labeling_config(
        '<View><Image name="image" value="$image"/><Choices name="marks" toName="image" choice="multiple">'
        '<Choice value="zero"/><Choice value="six"/></Choices></View>'
    ).controls
    names = {0: "zero", 6: "six"}
    images, truth = digits
    targets = [ChoiceTarget({names[d]: 1.0} if d in names else {}, 1, True) for d in truth]
    shares = class_shares(targets[:LABELS], control.classes)
    learner = HeadCommittee.fit(images[:LABELS], shares, control.classes, multi_label=True, seed=0)
    rest = slice(LABELS, LABELS + 400)
    given = targets[rest]
    missed = np.flatnonzero(truth[rest] == 0)[:5].tolist()
    invented = np.flatnonzero(truth[rest] == 3)[:5].tolist()
    for row in missed:
        given[row] = ChoiceTarget({}, 1, True)
    for row in invented:
        given[row] = ChoiceTarget({"six": 1.0}, 1, True)
    audit = labeled(images[rest], given)
    said = Said(audit.task_ids, learner.answers(audit.embeddings), learner.classes)
    found = find_label_errors(control, SETTINGS, nobody(images), audit, said, 0)
    words = {error["task"] - 1000: (error["given"], error["said"]) for error in found["errors"]}
    assert ("no zero", "zero") in [words.get(row) for row in missed]
    assert ("six", "no six") in [words.get(row) for row in invented]
    assert len(words.keys() - {*missed, *invented}) <= 1


def test_too_few_labels_to_train_on_the_others(digits):
    training = labeled(digits[0][:8], [one(digit) for digit in digits[1][:8]])
    found = find_label_errors(CONTROL, SETTINGS, training, nobody(digits[0]), NOTHING, 0)
    assert found == {"judged": 0, "found": 0, "errors": []}
