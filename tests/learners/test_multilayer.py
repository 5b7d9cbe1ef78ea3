import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss

from backend.learners.classification import BLOCK, FILE, HeadCommittee
from backend.learners.committee import fit_committee, load_committee
from backend.learners.multilayer import DROPPED, MultilayerCommittee
from backend.learners.weights import DamagedWeights

DIGITS = tuple("0123456789")
KINDS = pytest.mark.parametrize("learner", ["ensemble", "dropout"])


@pytest.fixture(scope="module")
def digits():
    """Pixels stand for embeddings: 800 to learn from, the rest to test on."""
    images, digit = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images, digit = images[order].astype(np.float32), digit[order]
    return images[:800], digit[:800], images[800:], digit[800:]


def one_hot(labels, classes=10):
    return np.eye(classes, dtype=np.float32)[labels]


def fit(learner, x, targets, classes=DIGITS, *, multi_label=False, members=8, seed=0):
    return fit_committee(learner, x, targets, classes, multi_label=multi_label, members=members, seed=seed)


def disagreement(probabilities):
    return probabilities.std(axis=0).mean()


def test_probabilities_by_hand():
    """Two members: hidden units relu(x - 1) and relu(-x), weighed differently."""
    shared = np.array([[[1.0], [-1.0]]], np.float32)
    offset = np.array([[[-1.0], [0.0]]], np.float32)
    weight = np.array([[[1, 0], [0, 1]], [[0, 0], [2, 0]]], np.float32)
    x = np.array([[3.0], [-2.0], [0.5]], np.float32)
    softmax = [
        [[np.e**2, 1], [1, np.e**2], [1, 1]],  # logits (2, 0), (0, 2), (0, 0)
        [[1, np.e**4], [1, 1], [1, 1]],  # logits (0, 4), (0, 0), (0, 0)
    ]
    expected = np.array(softmax) / np.sum(softmax, axis=2, keepdims=True)
    dropout = MultilayerCommittee(("a", "b"), False, shared, offset, weight)
    np.testing.assert_allclose(dropout.probabilities(x), expected, rtol=1e-5)
    ensemble = MultilayerCommittee(
        ("a", "b"), False, np.repeat(shared, 2, axis=0), np.repeat(offset, 2, axis=0), weight
    )
    np.testing.assert_allclose(ensemble.probabilities(x), expected, rtol=1e-5)
    several = MultilayerCommittee(("a", "b"), True, shared, offset, weight).probabilities(x)
    np.testing.assert_allclose(several[0, 0], [1 / (1 + np.exp(-2)), 0.5], rtol=1e-5)


@KINDS
def test_as_good_as_linear_heads(digits, learner):
    x, y, test_x, test_y = digits
    for labels in (30, 300):
        found, linear = (
            fit(kind, x[:labels], one_hot(y[:labels])).probabilities(test_x).mean(axis=0)
            for kind in (learner, "linear")
        )
        assert (found.argmax(1) == test_y).mean() >= (linear.argmax(1) == test_y).mean() - 0.02
        assert log_loss(test_y, found / found.sum(1, keepdims=True)) <= log_loss(test_y, linear) * 1.3


@KINDS
def test_learns_what_no_line_divides(learner):
    """Exclusive or, which linear heads guess."""
    x = np.random.default_rng(0).uniform(-1, 1, (400, 2)).astype(np.float32)
    targets = one_hot((x[:, 0] * x[:, 1] > 0).astype(int), 2)
    committee = fit(learner, x[:200], targets[:200], ("a", "b"))
    answers = committee.probabilities(x[200:]).mean(axis=0).argmax(1)
    assert (answers == targets[200:].argmax(1)).mean() > 0.9


@KINDS
def test_members_differ_and_agree_more_as_labels_come_in(digits, learner):
    x, y, test_x, test_y = digits
    few, many = (fit(learner, x[:n], one_hot(y[:n])).probabilities(test_x) for n in (30, 800))
    assert few.shape == (8, len(test_x), 10)
    np.testing.assert_allclose(few.sum(axis=2), 1, rtol=1e-5)
    # Dropout draws differ by what is dropped, which many labels make harmless but do not take away.
    assert 0 < disagreement(many) < disagreement(few) * (0.7 if learner == "dropout" else 0.5)
    wrong = few.mean(0).argmax(1) != test_y
    assert disagreement(few[:, wrong]) > 1.2 * disagreement(few[:, ~wrong])


def test_dropout_draws_share_one_network_and_keep_a_part_of_it(digits):
    x, y, _, _ = digits
    committee = fit("dropout", x[:50], one_hot(y[:50]), members=20)
    assert isinstance(committee, MultilayerCommittee)
    assert committee.hidden.shape[0] == 1
    kept = (committee.weight != 0).any(axis=1)  # (members, units)
    assert kept.mean() == pytest.approx(1 - DROPPED, abs=0.05)
    assert len({row.tobytes() for row in kept}) == 20
    # A unit has the same weights in all draws that keep it.
    strongest = np.abs(committee.weight).max(axis=0)
    present = np.broadcast_to(kept[:, None], committee.weight.shape)
    np.testing.assert_array_equal(
        np.abs(committee.weight)[present], np.broadcast_to(strongest, present.shape)[present]
    )


@KINDS
def test_a_seed_fixes_the_committee(digits, learner):
    x, y, test_x, _ = digits
    first, again, other = (
        fit(learner, x[:100], one_hot(y[:100]), members=3, seed=seed).probabilities(test_x)
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@KINDS
@pytest.mark.parametrize("labels", [1, 2, 6])
def test_a_handful_of_labels_is_enough_to_fit(digits, learner, labels):
    x, y, test_x, _ = digits
    probabilities = fit(learner, x[:labels], one_hot(y[:labels])).probabilities(test_x)
    assert np.isfinite(probabilities).all()
    if labels > 1:  # a single one is the centre of all, where no class is preferred
        assert set(probabilities.mean(0).argmax(1)) <= set(y[:labels])


@KINDS
def test_one_class_and_identical_embeddings_are_no_error(learner):
    alone = fit(learner, np.ones((9, 3)), np.ones((9, 1)), ("a",)).probabilities(np.zeros((2, 3)))
    np.testing.assert_allclose(alone, 1)
    undecided = fit(learner, np.ones((9, 3)), np.tile([0.7, 0.3], (9, 1)), ("a", "b"))
    np.testing.assert_allclose(undecided.probabilities(np.ones((1, 3))).mean(0), [[0.5, 0.5]], atol=1e-3)


@KINDS
def test_soft_targets_are_matched(digits, learner):
    """Where annotators are of two minds about every image, so is the committee."""
    x, y, test_x, test_y = digits
    targets = 0.7 * one_hot(y) + 0.3 * one_hot((y + 1) % 10)
    probabilities = fit(learner, x, targets).probabilities(test_x).mean(axis=0)
    truth = probabilities[np.arange(len(test_y)), test_y].mean()
    second = probabilities[np.arange(len(test_y)), (test_y + 1) % 10].mean()
    assert truth == pytest.approx(0.7, abs=0.08)
    assert second == pytest.approx(0.3, abs=0.08)


@KINDS
def test_multi_label_classes_are_independent(digits, learner):
    x, y, test_x, test_y = digits
    traits = ("even", "above four", "never")

    def of(digit):
        return np.stack([digit % 2 == 0, digit > 4, digit < 0], axis=1).astype(np.float32)

    probabilities = fit(learner, x, of(y), traits, multi_label=True).probabilities(test_x).mean(axis=0)
    right = ((probabilities > 0.5) == of(test_y)).mean(axis=0)
    assert right[0] > 0.9 and right[1] > 0.9
    assert probabilities[:, 2].max() < 0.05
    assert probabilities[:, :2].sum(axis=1).max() > 1.5


@KINDS
def test_long_inputs_are_scored_in_blocks(digits, learner):
    x, y, _, _ = digits
    committee = fit(learner, x[:50], one_hot(y[:50]), members=2)
    long = np.resize(x, (BLOCK + 5, 64)).astype(np.float16)
    whole = committee.probabilities(long)
    np.testing.assert_allclose(whole[:, -9:], committee.probabilities(long[-9:]), atol=1e-5)
    assert committee.probabilities(long[:0]).shape == (2, 0, 10)


def test_a_folder_tells_which_kind_it_holds(digits, tmp_path):
    """One file for all kinds, so that a later committee replaces an earlier one of another kind."""
    x, y, test_x, _ = digits
    for learner, kind in (
        ("dropout", MultilayerCommittee),
        ("linear", HeadCommittee),
        ("ensemble", MultilayerCommittee),
    ):
        committee = fit(learner, x[:50], one_hot(y[:50]), members=3)
        committee.save(tmp_path / "model")
        loaded = load_committee(tmp_path / "model")
        assert isinstance(loaded, kind)
        assert (loaded.classes, loaded.multi_label, loaded.members) == (DIGITS, False, 3)
        assert np.array_equal(loaded.probabilities(test_x), committee.probabilities(test_x))
        assert [path.name for path in (tmp_path / "model").iterdir()] == [FILE]
    content = (tmp_path / "model" / FILE).read_bytes()
    for damaged in (b"", b"not safetensors", content[:-10]):
        (tmp_path / "model" / FILE).write_bytes(damaged)
        with pytest.raises(DamagedWeights, match="delete it"):
            load_committee(tmp_path / "model")
    with pytest.raises(FileNotFoundError):
        load_committee(tmp_path / "nothing")


@KINDS
@pytest.mark.parametrize(
    ("embeddings", "targets", "message"),
    [
        (np.ones((0, 4)), np.ones((0, 2)), "no label"),
        (np.ones((2, 4)), np.ones((2, 3)) / 3, "2 targets"),
        (np.full((2, 4), np.nan), np.eye(2), "not finite"),
        (np.ones((2, 4)), np.eye(2) * 2 - 1, "between 0 and 1"),
        (np.ones((2, 4)), np.zeros((2, 2)), "sum to 1"),
    ],
)
def test_what_cannot_be_fit_is_refused(learner, embeddings, targets, message):
    with pytest.raises(ValueError, match=message):
        fit(learner, embeddings, targets, ("a", "b"))
