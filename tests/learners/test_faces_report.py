"""Which features tell people apart, on people made to differ in one known feature."""

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from backend.learners.faces import face_crops, feature_report, fit_face_recogniser
from backend.learners.faces.feature_plot import plot_feature_report
from backend.learners.faces.feature_report import FeatureReport
from backend.learners.faces.occlusion import occlusion_map
from backend.learners.learner import LabeledImages
from backend.targets import Box
from tests.learners.faces import said

SIDE = 7  # an embedding is the image's brightness in as many cells a side
NAMES = ("anna", "bob", "carl")
MARKS = {"anna": (1, 1), "bob": (5, 1), "carl": (3, 5)}  # column and row of what each has, and nobody else
CELLS = {name: row * SIDE + column for name, (column, row) in MARKS.items()}


def drawn(name: str, seed: int) -> Image.Image:
    """A white mark in a cell of its own, on noise."""
    noise = np.random.default_rng([seed, NAMES.index(name)]).integers(108, 148, (SIDE, SIDE), dtype=np.uint8)
    image = Image.fromarray(noise).resize((70, 70), Image.Resampling.NEAREST).convert("RGB")
    column, row = MARKS[name]
    ImageDraw.Draw(image).rectangle((10 * column, 10 * row, 10 * column + 9, 10 * row + 9), fill="white")
    return image


def embed(images: list[Image.Image]) -> np.ndarray:
    cells = [
        np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
        for image in images
    ]
    return (np.stack(cells).reshape(len(images), -1) - 128) / 128


@pytest.fixture(scope="module")
def report() -> FeatureReport:
    names = [name for name in NAMES for _ in range(5)]
    training, validation = ([drawn(name, seed + i) for i, name in enumerate(names)] for seed in (0, 100))
    targets = [said(name) for name in names]
    recogniser = fit_face_recogniser(embed(training), targets, members=2, seed=0)
    # Who is not known, and on whom annotators are divided, is left out.
    images = [*validation, validation[0], validation[0]]
    targets += [said("dora"), said("anna", "bob")]
    return feature_report(recogniser, embed(images), LabeledImages(images.__getitem__, targets), embed)


def test_the_dimensions_that_separate_a_pair(report: FeatureReport) -> None:
    assert report.dimensions == SIDE**2
    assert {pair.people for pair in report.pairs} == {("anna", "bob"), ("anna", "carl"), ("bob", "carl")}
    assert [pair.margin for pair in report.pairs] == sorted(pair.margin for pair in report.pairs)
    for pair in report.pairs:
        assert set(pair.strongest[:2].tolist()) == {CELLS[name] for name in pair.people}
        assert (pair.sufficient, pair.accuracy) == (1, 1.0)
        assert pair.fisher_ratios[pair.strongest[1]] > 20 * pair.fisher_ratios[pair.strongest[2]]


def test_the_region_that_a_face_is_recognised_by(report: FeatureReport) -> None:
    for name, (column, row) in MARKS.items():
        importance = report.map_of(name).importance
        assert np.unravel_index(importance.argmax(), importance.shape) == (row, column)
        own_mark = np.hypot(*np.mgrid[-row : SIDE - row, -column : SIDE - column]) < 1.5
        assert importance[own_mark].mean() > 4 * np.abs(importance[~own_mark]).mean()


def test_as_json(report: FeatureReport) -> None:
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert data["pairs"][0]["people"] == list(report.pairs[0].people)
    assert np.shape(data["regions"]["anna"]) == (7, 7)


def test_as_a_picture(report: FeatureReport, tmp_path) -> None:
    plot_feature_report(report, tmp_path / "report.png")
    picture = np.asarray(Image.open(tmp_path / "report.png").convert("RGB"), np.int64)
    red, _, blue = (picture[..., channel] for channel in range(3))
    assert min(picture.shape[:2]) > 500
    assert (red - blue > 60).mean() > 0.01  # what helps is orange


def test_a_person_with_a_single_face_is_shown_without_how_few_suffice() -> None:
    names = ["anna", "anna", "bob"]
    images = [drawn(name, i) for i, name in enumerate(names)]
    targets = [said(name) for name in names]
    recogniser = fit_face_recogniser(embed(images), targets, members=2, seed=0)
    (pair,) = feature_report(
        recogniser, embed(images), LabeledImages(images.__getitem__, targets), embed
    ).pairs
    assert (pair.sufficient, pair.accuracy) == (None, None)
    with pytest.raises(ValueError, match="two known people or more"):
        faces = LabeledImages(images[:2].__getitem__, targets[:2])
        feature_report(recogniser, embed(images[:2]), faces, embed)
    with pytest.raises(ValueError, match="not one of two or more people known"):
        occlusion_map(recogniser, "carl", images, embed)


@pytest.mark.parametrize(
    ("box", "size", "corner"),
    [
        (Box("", 0.4, 0.3, 0.5, 0.5), (28, 28), (76, 26)),  # 20 by 20 pixels, and 4 on each side
        (Box("", 0.45, 0.35, 0.5, 0.65), (42, 42), (74, 29)),  # taller than wide
        (Box("", 0, 0, 0.1, 0.2), (28, 28), (0, 0)),  # moved inside
        (Box("", 0.9, 0.9, 1, 1), (28, 28), (172, 72)),
        (Box("", 0.2, 0, 0.8, 1), (168, 100), (16, 0)),  # higher than the image: cut off
        (Box("", 0.5, 0.5, 0.5001, 0.5001), (1, 1), (100, 50)),
    ],
)
def test_crops_are_square_and_within_the_image(
    box: Box, size: tuple[int, int], corner: tuple[int, int]
) -> None:
    across, down = np.meshgrid(np.arange(200), np.arange(100))
    image = Image.fromarray(np.stack([across, down, 0 * down], axis=2).astype(np.uint8))
    (crop,) = face_crops(image, [box])
    assert crop.size == size
    assert crop.getpixel((0, 0))[:2] == corner


def test_crops_of_a_tiny_image() -> None:
    assert [crop.size for crop in face_crops(Image.new("L", (1, 1)), [Box("", 0, 0, 1, 1)] * 2)] == [
        (1, 1)
    ] * 2
    assert face_crops(Image.new("L", (1, 1)), []) == []
