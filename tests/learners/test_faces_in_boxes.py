"""Faces in scenes: found by a detector, named one by one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from backend.learners.detection import BoxAnswers
from backend.learners.faces.answers import FaceAnswers
from backend.learners.faces.in_boxes import (
    NamedFaceAnswers,
    NamedFaceFinder,
    evaluate_named_faces,
    fit_named_face_finder,
)
from backend.learners.learner import LabeledImages
from backend.targets import Box, BoxTarget
from strategies import Pool, strategy

PEOPLE = ("Ada", "Emmy", "Mary")
COLOURS = ((220, 60, 60), (60, 200, 60), (80, 80, 230))
SIDE, RADIUS = 96, 14


def scene(seed: int) -> tuple[Image.Image, BoxTarget]:
    """One or two round faces on grey, each of its person's colour."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (SIDE, SIDE), (int(rng.integers(100, 140)),) * 3)
    draw, boxes = ImageDraw.Draw(image), []
    for half in rng.permutation(2)[: rng.integers(1, 3)]:
        person = int(rng.integers(len(PEOPLE)))
        x, y = rng.uniform(RADIUS, SIDE / 2 - RADIUS) + half * SIDE / 2, rng.uniform(RADIUS, SIDE - RADIUS)
        edges = (x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS)
        draw.ellipse(edges, COLOURS[person])
        for side in (-5, 5):
            draw.ellipse((x + side - 2, y - 5, x + side + 2, y - 1), (0, 0, 0))
        boxes.append(Box(PEOPLE[person], *(edge / SIDE for edge in edges)))
    return image, BoxTarget(tuple(boxes))


def mean_colour(images: Sequence[Image.Image]) -> np.ndarray:
    """An embedding that tells these people apart."""
    colours = [np.asarray(i.resize((6, 6))).reshape(-1) / 255 for i in images]
    return np.array(colours, np.float32)


@pytest.fixture(scope="module")
def finder() -> NamedFaceFinder:
    scenes = [scene(seed) for seed in range(24)]
    images = LabeledImages(lambda place: scenes[place][0], [target for _, target in scenes])
    return fit_named_face_finder(
        images, mean_colour, members=2, seed=0, detector="one-stage", backbone="scratch", on_progress=None
    )


def test_faces_are_found_and_named(finder: NamedFaceFinder, tmp_path: Path) -> None:
    scenes = [scene(seed) for seed in range(100, 120)]
    answers = finder.answers([finder.prepare(image) for image, _ in scenes])
    measured = evaluate_named_faces(answers, [target for _, target in scenes])
    assert measured.metric == "rank-1 identification"
    assert measured.total == sum(len(target.boxes) for _, target in scenes)
    assert measured.score > 0.8
    prediction = answers.prediction(0)
    assert prediction.size == (SIDE, SIDE)
    assert len(prediction.confidences) == len(prediction.target.boxes)  # type: ignore[union-attr]

    finder.save(tmp_path)
    again = NamedFaceFinder.load(tmp_path, mean_colour)
    assert again.classes == PEOPLE
    same = again.answers([again.prepare(image) for image, _ in scenes])
    assert evaluate_named_faces(same, [target for _, target in scenes]) == measured


def test_the_faces_are_units_for_strategies(finder: NamedFaceFinder) -> None:
    scenes = [scene(seed)[0] for seed in range(100, 110)]
    parts = [finder.answers([finder.prepare(image) for image in some]) for some in (scenes[:4], scenes[4:])]
    answers = NamedFaceAnswers.concatenate(parts)
    fields = answers.take(np.arange(9, -1, -1)).pool_fields()
    assert fields["committee"].shape == (2, 10, 3)
    pool = Pool(10, multi_label=True, classes=finder.classes, **fields)
    for spec in ("margin", "{regions: {score: verification_threshold}}", "{regions: {score: margin}}"):
        assert len(strategy(spec).rank(pool, 5, batch_size=5, seed=0)) == 5


def test_an_image_without_a_face_is_answered(finder: NamedFaceFinder) -> None:
    empty = Image.new("RGB", (SIDE, SIDE), (120, 120, 120))
    answers = finder.answers([finder.prepare(empty)])
    assert answers.prediction(0).target == BoxTarget(())
    assert answers.pool_fields()["committee"].shape == (2, 1, 3)


def test_a_face_counts_once_and_only_with_its_name() -> None:
    """By hand: of three true faces one is found and named, one misnamed, one not found; doubles are nothing."""
    places = np.array([[0, 0, 0.2, 0.2], [0, 0, 0.2, 0.19], [0.5, 0.5, 0.7, 0.7]], np.float32)
    boxes = BoxAnswers(
        ("face",),
        np.array([[100, 100]], np.int32),
        np.zeros(3, np.int64),
        places,
        np.ones((1, 3, 1), np.float16),
        np.ones(3, np.float16),
        np.ones((3, 2), np.float16),
    )
    similarities = np.array([[0.9, 0.1], [0.9, 0.1], [0.8, 0.2]], np.float32)
    faces = FaceAnswers(("a", "b"), 0.5, 10.0, similarities[None], similarities, np.ones((3, 2), np.float16))
    truth = BoxTarget((Box("a", 0, 0, 0.2, 0.2), Box("b", 0.5, 0.5, 0.7, 0.7), Box("a", 0, 0.8, 0.1, 0.9)))
    measured = evaluate_named_faces(NamedFaceAnswers(boxes, faces), [truth])
    assert (measured.score, measured.total) == (1 / 3, 3)
    assert measured.details["faces found"] == 2 / 3
    assert [each["score"] for each in measured.classes] == [0.5, 0.0]
