"""What careless annotators make of objects and regions."""

import numpy as np
import pytest
from PIL import Image

from backend.simulation.dataset import Dataset
from backend.simulation.hard_cases import HardCases, Images, as_they_are, make_hard, truth_of
from backend.simulation.label_noise import MISSED, MISTAKEN_BOXES
from backend.targets import Box, BoxTarget, MaskTarget, Polygon, VisionTask

IMAGES, BOXES = 200, 40
CLASSES = ("a", "b", "c", "d")
CORNERS = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))


def said(dataset: Dataset, made: Images, place: int) -> BoxTarget | MaskTarget:
    """What the annotator says of one of the images."""
    return truth_of(dataset, int(made.positions[place]), int(made.mistakes[place]))


def dataset_of(truths: list[BoxTarget | MaskTarget], classes: tuple[str, ...] = CLASSES) -> Dataset:
    task: VisionTask = "detection" if isinstance(truths[0], BoxTarget) else "segmentation"
    targets = np.array([shown(truth, classes) for truth in truths], np.float32)

    def load(_: int) -> Image.Image:
        raise AssertionError("Labels are wrong without a look at the image.")

    return Dataset(
        "drawn",
        classes,
        True,
        targets,
        load,
        {},
        None,
        "drawn",
        task=task,
        truths=lambda position: truths[position],
    )


def shown(truth: BoxTarget | MaskTarget, classes: tuple[str, ...]) -> list[bool]:
    names = labels(truth)
    return [name in names for name in classes]


def labels(truth: BoxTarget | MaskTarget) -> list[str | None]:
    return [part.label for part in (truth.boxes if isinstance(truth, BoxTarget) else truth.regions)]


def of_boxes(*names: str) -> BoxTarget:
    """Each at a place of its own."""
    return BoxTarget(
        tuple(Box(name, n / 100, 0.0, n / 100 + 0.5, 1.0) for n, name in enumerate(names)), 2, 0.9
    )


def of_regions(*names: str | None) -> MaskTarget:
    return MaskTarget(tuple(Polygon(name, CORNERS) for name in names), 8, 6)


def mislabeled(dataset: Dataset, share: float = 0.5, seed: int = 0) -> Images:
    pool = as_they_are(dataset, np.arange(len(dataset)))
    return make_hard(dataset, pool, HardCases(label_noise=share), np.random.default_rng(seed))


def check(dataset: Dataset, made: Images) -> None:
    """The images without a mistake are labeled right, and `targets` are of what the annotator says everywhere."""
    for place in range(len(made)):
        truth = said(dataset, made, place)
        assert made.targets[place].tolist() == shown(truth, dataset.classes)
        right = dataset.truths is not None and truth == dataset.truths(int(made.positions[place]))
        assert right == (made.mistakes[place] == 0)


def test_boxes_are_missed_or_of_another_class() -> None:
    rng = np.random.default_rng(0)
    truths: list[BoxTarget | MaskTarget] = [of_boxes(*rng.choice(CLASSES, BOXES)) for _ in range(IMAGES)]
    dataset = dataset_of(truths)
    made = mislabeled(dataset)
    check(dataset, made)
    wrong = np.flatnonzero(made.mistakes)
    assert len(wrong) == IMAGES / 2
    missed, renamed = 0, {}
    for place in wrong:
        before, after = truths[place], said(dataset, made, place)
        assert isinstance(before, BoxTarget)
        assert isinstance(after, BoxTarget)
        assert (after.annotators, after.agreement) == (2, 0.9)
        left = {box.left: box for box in after.boxes}
        assert len(left) == len(after.boxes)
        for box in before.boxes:
            seen = left.pop(box.left, None)
            if seen is None:
                missed += 1
            elif seen != box:
                renamed[box.label, seen.label] = renamed.get((box.label, seen.label), 0) + 1
        assert not left
    # Each box is one of a binomial number; four standard deviations.
    boxes = len(wrong) * BOXES
    for count, share in (
        (missed, MISTAKEN_BOXES * MISSED),
        (sum(renamed.values()), MISTAKEN_BOXES * (1 - MISSED)),
    ):
        assert abs(count - boxes * share) < 4 * (boxes * share * (1 - share)) ** 0.5
    assert len(renamed) == len(CLASSES) * (len(CLASSES) - 1)


def test_a_single_box_is_the_mistake() -> None:
    dataset = dataset_of([of_boxes("a"), of_boxes("b"), of_boxes()] * 30)
    made = mislabeled(dataset, share=0.99)
    check(dataset, made)
    assert np.array_equal(made.mistakes > 0, dataset.targets.any(axis=1))


def test_boxes_of_the_only_class_are_missed() -> None:
    dataset = dataset_of([of_boxes("a", "a", "a")] * 20, classes=("a",))
    made = mislabeled(dataset)
    check(dataset, made)
    assert {len(labels(said(dataset, made, place))) for place in np.flatnonzero(made.mistakes)} <= {
        0,
        1,
        2,
    }


def test_two_classes_of_a_mask_are_exchanged() -> None:
    dataset = dataset_of([of_regions("a", None, "b", "a"), of_regions("c"), of_regions(None)] * 60)
    made = mislabeled(dataset, share=0.6)
    check(dataset, made)
    assert not made.mistakes[2::3].any()
    found = {tuple(labels(said(dataset, made, place))) for place in range(0, len(made), 3)}
    found -= {("a", None, "b", "a")}
    assert found == {
        ("b", None, "a", "b"),
        ("c", None, "b", "c"),
        ("d", None, "b", "d"),
        ("a", None, "c", "a"),
        ("a", None, "d", "a"),
    }


def test_the_same_mistake_each_time_and_another_in_each_copy() -> None:
    dataset = dataset_of([of_boxes(*CLASSES * 5)] * 4)
    pool = as_they_are(dataset, np.arange(4))
    hard = HardCases(redundancy=10, label_noise=0.9)
    made, again = (make_hard(dataset, pool, hard, np.random.default_rng(1)) for _ in range(2))
    check(dataset, made)
    assert np.array_equal(made.mistakes, again.mistakes)
    wrong = np.flatnonzero(made.mistakes)
    assert [said(dataset, made, place) for place in wrong] == [said(dataset, again, place) for place in wrong]
    assert len({tuple(labels(said(dataset, made, place))) for place in wrong}) == len(wrong) == 36


def test_regions_of_the_only_class_cannot_be_wrong() -> None:
    dataset = dataset_of([of_regions("a"), of_regions()], classes=("a",))
    with pytest.raises(ValueError, match="label-noise needs two classes or more"):
        mislabeled(dataset)
