import numpy as np
import pytest
from sklearn.datasets import load_digits

from backend.labelstudio.labeling_config import read_labeling_config
from backend.learners.classification import HeadCommittee
from backend.learners.tasks import class_shares
from backend.loop.learning import LabeledSet
from backend.loop.random_order import FURTHEST, RandomSample, estimate_random_order
from backend.settings import LoopSettings
from backend.targets import ChoiceTarget
from tests.end_to_end.running_loop import digits_config

DIGITS = tuple("0123456789")
(CONTROL,) = read_labeling_config(digits_config()).controls
SETTINGS = LoopSettings(members=2)
AUDIT, POOL = 100, 1500


@pytest.fixture(scope="module")
def digits():
    """Pixels stand for embeddings, in random order."""
    images, digit = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    return images[order].astype(np.float32), [ChoiceTarget({str(d): 1.0}, 1, False) for d in digit[order]]


def audit_tasks(digits, count=AUDIT):
    embeddings, targets = digits[0][:count], tuple(digits[1][:count])
    return LabeledSet(
        np.arange(count), ("",) * count, embeddings, embeddings, targets, tuple({} for _ in targets)
    )


def learner_of(digits, labels):
    """Trained on random tasks."""
    chosen = slice(AUDIT, AUDIT + labels)
    shares = class_shares(digits[1][chosen], DIGITS)
    return HeadCommittee.fit(digits[0][chosen], shares, DIGITS, members=8, seed=0)


def estimate(digits, trained_on, labels, *, audit=AUDIT, tasks=POOL, seed=0, **options):
    """As if `labels` labels had made a learner as good as `trained_on` random ones do."""
    pool = slice(AUDIT, AUDIT + min(tasks, POOL))
    known = [target if place < labels else None for place, target in enumerate(digits[1][pool])]
    sample = RandomSample(digits[0][pool], known, tasks)
    return estimate_random_order(
        CONTROL,
        SETTINGS,
        learner_of(digits, trained_on),
        labels,
        sample,
        audit_tasks(digits, audit),
        seed,
        **options,
    )


def test_labels_drawn_at_random_save_nothing(digits):
    found = estimate(digits, 60, 60)
    needed, saved = found["random_labels"], found["saved"]
    assert needed["low"] <= 60
    assert needed["estimate"] < FURTHEST * 60
    assert saved["low"] <= 0
    assert f"about {needed['estimate']} training labels" in found["sentence"]


def test_labels_that_teach_as_much_as_several_times_as_many_save_most(digits):
    found = estimate(digits, 90, 32)
    assert found["random_labels"]["low"] > 32
    assert found["saved"]["low"] == pytest.approx(1 - 32 / found["random_labels"]["low"], abs=0.02)
    assert [point["labels"] for point in found["points"]] == [8, 16, 32, 64]
    scores = [point["score"] for point in found["points"]]
    assert scores == sorted(scores)
    assert all(point["low"] < point["score"] < point["high"] for point in found["points"])


def test_fewer_audit_tasks_make_it_less_certain(digits):
    few, many = (estimate(digits, 60, 16, audit=audit)["points"][-1] for audit in (15, AUDIT))
    assert few["high"] - few["low"] > 1.5 * (many["high"] - many["low"])


def test_it_says_what_is_missing_where_too_few_audit_tasks_are_labeled(digits):
    found = estimate(digits, 60, 60, audit=9)
    assert (found["points"], found["random_labels"], found["saved"]) == ([], None, None)
    assert "9 audit tasks are labeled" in found["sentence"]


def test_what_lies_too_far_off_is_not_told(digits):
    found = estimate(digits, 800, 16)
    assert found["random_labels"]["high"] is None
    assert "more than 64" in found["sentence"]


def test_random_order_never_needs_more_than_all_tasks(digits):
    found = estimate(digits, 800, 16, tasks=30)
    assert found["random_labels"]["high"] == 30
    assert max(point["labels"] for point in found["points"]) == 30


def test_a_seed_fixes_it(digits):
    assert estimate(digits, 60, 16) == estimate(digits, 60, 16)
    assert estimate(digits, 60, 16) != estimate(digits, 60, 16, seed=1)


def test_several_classes_an_image(digits):
    (control,) = read_labeling_config(
        '<View><Image name="image" value="$image"/><Choices name="marks" toName="image" choice="multiple">'
        '<Choice value="even"/><Choice value="large"/></Choices></View>'
    ).controls

    def marked(target):
        digit = int(next(iter(target.votes)))
        names = [name for name, is_it in (("even", digit % 2 == 0), ("large", digit > 4)) if is_it]
        return ChoiceTarget(dict.fromkeys(names, 1.0), 1, True)

    targets = [marked(target) for target in digits[1]]
    shares = class_shares(targets[AUDIT : AUDIT + 60], control.classes)
    learner = HeadCommittee.fit(
        digits[0][AUDIT : AUDIT + 60], shares, control.classes, multi_label=True, seed=0
    )
    sample = RandomSample(digits[0][AUDIT:], [None] * (len(targets) - AUDIT), POOL)
    validation = audit_tasks((digits[0], targets))
    found = estimate_random_order(control, SETTINGS, learner, 30, sample, validation, 0)
    assert found["random_labels"]["low"] <= 60
    assert found["points"][0]["score"] < found["points"][-1]["score"]


class RoundDue(Exception):
    pass


def test_it_ends_between_two_trainings_where_something_else_goes_first(digits):
    trained = 0

    def proceed() -> None:
        nonlocal trained
        trained += 1
        if trained == 3:
            raise RoundDue

    with pytest.raises(RoundDue):
        estimate(digits, 60, 60, proceed=proceed)
    assert trained == 3
