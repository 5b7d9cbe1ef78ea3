import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import log_loss

from backend.learners.classification import BLOCK, FILE, HeadCommittee
from backend.learners.weights import DamagedWeights

DIGITS = tuple("0123456789")


@pytest.fixture(scope="module")
def digits():
    """Pixels stand for embeddings: 800 to learn from, the rest to test on."""
    images, digit = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images, digit = images[order].astype(np.float32), digit[order]
    return images[:800], digit[:800], images[800:], digit[800:]


def one_hot(labels, classes=10):
    return np.eye(classes, dtype=np.float32)[labels]


def disagreement(probabilities):
    return probabilities.std(axis=0).mean()


def test_as_good_as_cross_validated_logistic_regression(digits):
    x, y, test_x, test_y = digits
    for labels in (100, 300):
        peer = LogisticRegressionCV(
            Cs=4, cv=3, scoring="neg_log_loss", max_iter=300, l1_ratios=(0,), use_legacy_attributes=False
        ).fit(x[:labels] / 16, y[:labels])
        committee = HeadCommittee.fit(x[:labels], one_hot(y[:labels]), DIGITS, seed=0)
        probabilities = committee.probabilities(test_x).mean(axis=0)
        assert (probabilities.argmax(1) == test_y).mean() >= (
            peer.predict(test_x / 16) == test_y
        ).mean() - 0.01
        assert log_loss(test_y, probabilities) <= log_loss(test_y, peer.predict_proba(test_x / 16)) * 1.1


def test_members_differ_and_agree_more_as_labels_come_in(digits):
    x, y, test_x, _ = digits
    few, many = (HeadCommittee.fit(x[:n], one_hot(y[:n]), DIGITS, seed=0) for n in (30, 800))
    assert few.members == many.members == 8
    assert few.probabilities(test_x).shape == (8, len(test_x), 10)
    assert 0 < disagreement(many.probabilities(test_x)) < disagreement(few.probabilities(test_x)) / 2
    np.testing.assert_allclose(few.probabilities(test_x).sum(axis=2), 1, rtol=1e-5)


def test_disagreement_is_higher_where_the_committee_is_wrong(digits):
    x, y, test_x, test_y = digits
    probabilities = HeadCommittee.fit(x[:100], one_hot(y[:100]), DIGITS, seed=0).probabilities(test_x)
    wrong = probabilities.mean(0).argmax(1) != test_y
    assert disagreement(probabilities[:, wrong]) > 1.5 * disagreement(probabilities[:, ~wrong])


def test_a_seed_fixes_the_committee(digits):
    x, y, test_x, _ = digits
    first, again, other = (
        HeadCommittee.fit(x[:50], one_hot(y[:50]), DIGITS, members=5, seed=seed).probabilities(test_x)
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_class_without_labels_exists_with_little_mass(digits):
    x, y, test_x, _ = digits
    committee = HeadCommittee.fit(x[:100], one_hot(y[:100], 12), (*DIGITS, "x", "y"), seed=0)
    mass = committee.probabilities(test_x)[:, :, 10:]
    assert 0 < mass.mean() < 0.005


@pytest.mark.parametrize("labels", [1, 2, 3, 6])
def test_a_handful_of_labels_is_enough_to_fit(digits, labels):
    x, y, test_x, _ = digits
    probabilities = HeadCommittee.fit(x[:labels], one_hot(y[:labels]), DIGITS, seed=0).probabilities(test_x)
    assert np.isfinite(probabilities).all()
    assert set(probabilities.mean(0).argmax(1)) <= set(y[:labels])


def test_identical_embeddings_give_the_share_of_votes():
    targets = np.tile([0.7, 0.3], (200, 1))
    committee = HeadCommittee.fit(np.ones((200, 3)), targets, ("a", "b"), seed=0)
    np.testing.assert_allclose(committee.probabilities(np.ones((1, 3))).mean(0), [[0.7, 0.3]], atol=0.01)


def test_a_label_counts_by_its_weight():
    x = np.ones((200, 3))
    targets = np.repeat(np.eye(2), 100, axis=0)
    committee = HeadCommittee.fit(
        x, targets, ("a", "b"), seed=0, members=32, weights=np.repeat([9.0, 1.0], 100)
    )
    np.testing.assert_allclose(committee.probabilities(x[:1]).mean(0), [[0.9, 0.1]], atol=0.03)


def test_multi_label_classes_are_independent(digits):
    x, y, test_x, test_y = digits
    traits = ("even", "above four", "never")

    def of(digit):
        return np.stack([digit % 2 == 0, digit > 4, digit < 0], axis=1).astype(np.float32)

    committee = HeadCommittee.fit(x, of(y), traits, multi_label=True, seed=0)
    probabilities = committee.probabilities(test_x).mean(axis=0)
    right = ((probabilities > 0.5) == of(test_y)).mean(axis=0)
    assert right[0] > 0.85 and right[1] > 0.85
    assert probabilities[:, 2].max() < 0.05
    assert probabilities[:, :2].sum(axis=1).max() > 1.5


def test_long_inputs_are_scored_in_blocks(digits):
    x, y, _, _ = digits
    committee = HeadCommittee.fit(x[:50], one_hot(y[:50]), DIGITS, members=2, seed=0)
    long = np.resize(x, (BLOCK + 5, 64)).astype(np.float16)
    whole = committee.probabilities(long)
    np.testing.assert_allclose(whole[:, -9:], committee.probabilities(long[-9:]), atol=1e-5)
    assert committee.probabilities(long[:0]).shape == (2, 0, 10)


def test_saved_and_loaded(digits, tmp_path):
    x, y, test_x, _ = digits
    for labels in (50, 60):  # the second replaces the first
        committee = HeadCommittee.fit(x[:labels], one_hot(y[:labels]), DIGITS, members=3, seed=0)
        committee.save(tmp_path / "model")
    loaded = HeadCommittee.load(tmp_path / "model")
    assert (loaded.classes, loaded.multi_label, loaded.members) == (DIGITS, False, 3)
    assert np.array_equal(loaded.probabilities(test_x), committee.probabilities(test_x))
    assert [path.name for path in (tmp_path / "model").iterdir()] == [FILE]

    content = (tmp_path / "model" / FILE).read_bytes()
    for damaged in (b"", b"not safetensors", content[:-10]):
        (tmp_path / "model" / FILE).write_bytes(damaged)
        with pytest.raises(DamagedWeights, match="delete it"):
            HeadCommittee.load(tmp_path / "model")


@pytest.mark.parametrize(
    ("embeddings", "targets", "weights", "message"),
    [
        (np.ones((0, 4)), np.ones((0, 2)), None, "no label"),
        (np.ones((3, 4)), np.ones((2, 2)) / 2, None, "got targets"),
        (np.ones((2, 4)), np.ones((2, 3)) / 3, None, "2 targets"),
        (np.full((2, 4), np.nan), np.eye(2), None, "not finite"),
        (np.ones((2, 4)), np.eye(2) * 2 - 1, None, "between 0 and 1"),
        (np.ones((2, 4)), np.zeros((2, 2)), None, "sum to 1"),
        (np.ones((2, 4)), np.eye(2), np.zeros(2), "weights"),
        (np.ones((2, 4)), np.eye(2), np.array([1, -1]), "weights"),
    ],
)
def test_what_cannot_be_fit_is_refused(embeddings, targets, weights, message):
    with pytest.raises(ValueError, match=message):
        HeadCommittee.fit(embeddings, targets, ("a", "b"), seed=0, weights=weights)
