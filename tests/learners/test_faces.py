"""The face recogniser: metric learning, the open set, and what it makes of awkward labels."""

import numpy as np
import pytest
import torch

from backend.learners.faces import FaceAnswers, FaceRecogniser, fit_face_recogniser, metric_learning
from backend.learners.faces.calibration import FOLDS, UNTRIED, deal_folds, equal_error_threshold
from backend.learners.faces.recogniser import BLOCK, FILE
from backend.learners.weights import DamagedWeights
from strategies import Pool
from tests.learners.faces import embeddings, named, said

KNOWN = np.repeat(np.arange(20), 4)  # four faces of each of 20 people
PROBES = np.repeat(np.arange(20), 10)
STRANGERS = np.repeat(np.arange(100, 120), 10)


@pytest.fixture(scope="module")
def recogniser() -> FaceRecogniser:
    return fit_face_recogniser(embeddings(KNOWN, 0), named(KNOWN), members=4, seed=0)


def rank_one(answers: FaceAnswers, people: np.ndarray) -> float:
    return float(np.mean(answers.similarities.argmax(axis=1) == people))


def by_centres(x: np.ndarray, people: np.ndarray, probes: np.ndarray) -> np.ndarray:
    """The likest person by the cosine of the given embedding."""
    mean = x.mean(axis=0)
    centres = np.stack([(x - mean)[people == p].mean(axis=0) for p in np.unique(people)])
    return ((probes - mean) @ (centres / np.linalg.norm(centres, axis=1, keepdims=True)).T).argmax(axis=1)


def equal_error(own: np.ndarray, other: np.ndarray) -> float:
    """The error rate at which as many of `own` are below a threshold as of `other` above it."""
    thresholds = np.concatenate([own, other])
    return min(max(np.mean(own < t), np.mean(other >= t)) for t in thresholds)


def test_people_are_told_apart_better_than_in_the_given_embedding(recogniser: FaceRecogniser) -> None:
    x, probes = embeddings(KNOWN, 0), embeddings(PROBES, 1)
    given = np.mean(by_centres(x, KNOWN, probes) == PROBES)
    assert given < 0.5
    assert rank_one(recogniser.answers(probes), PROBES) > 0.97


def test_strangers_are_taken_for_nobody_known(recogniser: FaceRecogniser) -> None:
    known, strangers = (
        recogniser.answers(embeddings(p, 1)).similarities.max(axis=1) for p in (PROBES, STRANGERS)
    )
    assert np.mean(known >= recogniser.threshold) > 0.85
    assert np.mean(strangers < recogniser.threshold) > 0.85


@pytest.fixture
def without_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is learnt stays where it starts."""
    monkeypatch.setattr(metric_learning, "LEARNING_RATE", 0.0)


@pytest.mark.usefixtures("without_training")
def test_the_angular_margin_separates_pairs_of_faces_better_than_whitening_alone(
    recogniser: FaceRecogniser,
) -> None:
    untrained = fit_face_recogniser(embeddings(KNOWN, 0), named(KNOWN), members=4, seed=0)
    for people in (PROBES, STRANGERS):  # also of people that the space was not learnt from
        first, second = np.triu_indices(len(people), 1)
        same = people[first] == people[second]

        def error(made: FaceRecogniser, people=people, first=first, second=second, same=same) -> float:
            rows = made.answers(embeddings(people, 1)).features.astype(np.float32)
            similarities = (rows @ rows.T)[first, second]
            return equal_error(similarities[same][::5], similarities[~same][::50])

        assert error(recogniser) < 0.8 * error(untrained)


@pytest.mark.usefixtures("without_training")
def test_with_one_face_a_person_it_starts_at_the_cosine_of_the_given_embedding() -> None:
    people = np.arange(20)
    x, probes = embeddings(people, 0), embeddings(PROBES, 1)
    recogniser = fit_face_recogniser(x, named(people), members=3, seed=0)
    origin = x.sum(axis=0) / 21
    known, asked = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x - origin, probes - origin)
    )
    np.testing.assert_allclose(recogniser.answers(probes).similarities, asked @ known.T, atol=1e-4)


def test_with_one_face_a_person_training_does_no_harm() -> None:
    people = np.arange(20)
    x, probes = embeddings(people, 0), embeddings(PROBES, 1)
    answers = fit_face_recogniser(x, named(people), members=4, seed=0).answers(probes)
    assert rank_one(answers, PROBES) >= np.mean(by_centres(x, people, probes) == PROBES)


def test_members_are_distributions_that_differ_where_it_is_doubtful(recogniser: FaceRecogniser) -> None:
    answers = recogniser.answers(embeddings(PROBES, 1))
    assert answers.probabilities.shape == (4, 200, 20)
    np.testing.assert_allclose(answers.probabilities.sum(axis=2), 1, rtol=1e-4)
    spread = answers.probabilities.std(axis=0).max(axis=1)
    sure = answers.probabilities.mean(axis=0).max(axis=1) > 0.95
    assert 0 < spread[sure].mean() < 0.5 * spread[~sure].mean()


def test_probabilities_are_calibrated(recogniser: FaceRecogniser) -> None:
    p = recogniser.answers(embeddings(PROBES, 1, spread=0.9)).probabilities.mean(axis=0)
    right = p.argmax(axis=1) == PROBES
    assert 0.5 < right.mean() < 0.99
    assert abs(p.max(axis=1).mean() - right.mean()) < 0.15


def test_the_pool_that_strategies_see(recogniser: FaceRecogniser) -> None:
    answers = recogniser.answers(embeddings(PROBES, 1))
    pool = Pool(200, classes=recogniser.classes, **answers.pool_fields())
    assert pool.verification is not None and pool.verification.threshold == recogniser.threshold
    assert pool.verification.similarities.shape == (200, 20)
    assert pool.features is not None
    np.testing.assert_allclose(np.linalg.norm(pool.features, axis=1), 1, atol=2e-3)


def test_predictions_name_somebody_or_nobody(recogniser: FaceRecogniser) -> None:
    answers = recogniser.answers(embeddings(np.concatenate([PROBES, STRANGERS]), 1))
    likeness = answers.similarities.max(axis=1)
    surest, hardly, nobody = (
        answers.prediction(int(i))
        for i in (likeness.argmax(), np.abs(likeness - answers.threshold).argmin(), likeness.argmin())
    )
    name = answers.classes[int(answers.similarities[likeness.argmax()].argmax())]
    assert (surest.target, surest.confidences) == (said(name), (surest.confidence,))
    assert (nobody.target.votes, nobody.confidences) == ({}, ())
    assert hardly.confidence < 0.6 < min(surest.confidence, nobody.confidence)
    assert max(surest.confidence, nobody.confidence) <= 1


def test_a_seed_fixes_the_recogniser() -> None:
    x, targets, probes = embeddings(KNOWN[:20], 0), named(KNOWN[:20]), embeddings(PROBES, 1)
    first, again, other = (
        fit_face_recogniser(x, targets, members=2, seed=seed).answers(probes).probabilities
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("faces", [1, 2, 6])
def test_a_single_person(faces: int) -> None:
    x = embeddings(np.zeros(faces, np.int64), 0)
    recogniser = fit_face_recogniser(x, [said("anna")] * faces, members=2, seed=0)
    answers = recogniser.answers(np.concatenate([x, embeddings(STRANGERS, 1)]))
    assert recogniser.classes == ("anna",)
    assert (answers.probabilities == 1).all()
    assert answers.similarities[:faces].mean() > answers.similarities[faces:].mean() + 0.2


def test_two_images_that_are_the_same_of_people_who_are_not() -> None:
    x = np.repeat(embeddings(np.array([0, 1]), 0), 2, axis=0)
    recogniser = fit_face_recogniser(x, [said("a"), said("b"), said("c"), said("c")], members=3, seed=0)
    mean = recogniser.answers(x).probabilities.mean(axis=0)
    np.testing.assert_allclose(mean[0, :2], mean[0, :2].mean(), atol=0.02)
    assert mean[0, 2] < mean[0, 0] and mean[2].argmax() == 2


def test_a_face_counts_for_whom_annotators_named() -> None:
    x = embeddings(np.array([0, 0, 1, 1]), 0)
    targets = [said("anna"), said("anna", "anna", "bob"), said("bob"), said("bob")]
    recogniser = fit_face_recogniser(x, targets, members=3, seed=0)
    assert recogniser.classes == ("anna", "bob")
    assert recogniser.answers(x).similarities.argmax(axis=1).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("rows", [[0], [0, 1, 2, 3], [5]])
def test_embeddings_of_zeros(rows: list[int]) -> None:
    people = np.array([0, 0, 1, 1, 2, 2])
    x = embeddings(people, 0)
    x[rows] = 0
    answers = fit_face_recogniser(x, named(people), members=2, seed=0).answers(
        np.zeros((2, x.shape[1]), np.float32)
    )
    for array in (answers.probabilities, answers.similarities, answers.features):
        assert np.isfinite(array).all()
    nothing = fit_face_recogniser(np.zeros_like(x), named(people), members=2, seed=0)
    assert nothing.answers(x).prediction(0).target.votes == {}


@pytest.mark.parametrize(
    ("x", "targets", "message"),
    [
        (np.ones((0, 4)), [], "no label"),
        (np.ones((2, 4)), [said("a")], "each of 1 targets"),
        (np.full((1, 4), np.nan), [said("a")], "not finite"),
        (np.ones((2, 4)), [said("a"), said("")], "no name"),
        (np.ones((2, 4)), [said("a"), said(" \t")], "no name"),
        (np.ones((2, 4)), [said("a"), said()], "no name"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(x: np.ndarray, targets: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_face_recogniser(x, targets, members=2, seed=0)


def test_long_inputs_are_looked_at_in_blocks(recogniser: FaceRecogniser) -> None:
    few = embeddings(PROBES, 1)
    many = np.resize(few, (BLOCK + 5, few.shape[1]))
    answers = recogniser.answers(many)
    assert len(answers) == BLOCK + 5
    last = answers.take(np.arange(BLOCK, BLOCK + 5))
    np.testing.assert_allclose(last.similarities, recogniser.answers(many[-5:]).similarities, atol=1e-5)
    assert len(recogniser.answers(few[:0])) == 0


def test_saved_and_loaded(recogniser: FaceRecogniser, tmp_path) -> None:
    recogniser.save(tmp_path / "model")
    loaded = FaceRecogniser.load(tmp_path / "model")
    one, other = (made.answers(embeddings(PROBES, 1)) for made in (recogniser, loaded))
    assert (one.classes, one.threshold, one.scale) == (other.classes, other.threshold, other.scale)
    assert np.array_equal(one.probabilities, other.probabilities)
    assert np.array_equal(one.features, other.features)
    assert [path.name for path in (tmp_path / "model").iterdir()] == [FILE]
    content = (tmp_path / "model" / FILE).read_bytes()
    (tmp_path / "model" / FILE).write_bytes(content[:-10])
    with pytest.raises(DamagedWeights, match="delete it"):
        FaceRecogniser.load(tmp_path / "model")


def test_every_label_is_a_stranger_once_and_left_out_once() -> None:
    people = torch.tensor([0, 0, 0, 1, 1, 2, 3, 4, 5, 6])
    folds = deal_folds(people, torch.Generator().manual_seed(0))
    assert ((folds.weights() == 0).sum(dim=0) == 2).all()
    assert (folds.stranger_to != folds.left_out_by).all()
    for person in range(7):
        assert len(folds.stranger_to[people == person].unique()) == 1
    assert len(folds.left_out_by[people == 0].unique()) == 3  # as many networks as the person has faces
    assert set(folds.stranger_to.tolist()) == set(range(FOLDS))


@pytest.mark.parametrize(
    ("right", "strangers", "threshold"),
    [
        ([0.8, 0.9], [0.1, 0.2], 0.5),  # halfway between 0.2 and 0.8
        ([0.4, 0.8, 0.9], [0.1, 0.6], 0.475),  # one of three is wrong from between 0.1 and 0.4 to 0.6 and 0.8
        ([0.6], [], 0.3),  # between 0.6 and the invented stranger
        ([], [0.1, 0.3], 0.3),
        ([], [], UNTRIED),
    ],
)
def test_the_threshold_is_at_the_equal_error(right: list, strangers: list, threshold: float) -> None:
    assert equal_error_threshold([torch.tensor(right)], [torch.tensor(strangers)]) == pytest.approx(threshold)


def test_the_angular_margin_loss_is_the_papers() -> None:
    """Worked out with arc cosines, as the paper writes it."""
    cosines = torch.tensor([[[0.7, 0.2, -0.3], [-0.95, 0.4, 0.1]]])
    loss = metric_learning._angular_margin_loss(cosines, torch.tensor([0, 2]))
    scale = np.log(2 * 0.99 / 0.01)
    for row, right, found in zip(cosines[0].numpy(), (0, 2), loss[0].tolist(), strict=True):
        logits = row.astype(float)
        logits[right] = np.cos(np.arccos(logits[right]) + 0.5)
        logits *= scale
        assert found == pytest.approx(np.log(np.exp(logits).sum()) - logits[right], abs=1e-4)
