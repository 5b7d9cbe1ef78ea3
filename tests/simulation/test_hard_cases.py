"""The hard cases do to the pool what they say, and to nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from backend.simulation.dataset import Dataset
from backend.simulation.hard_cases import HardCases, Images, as_they_are, make_hard, near_duplicate, together
from backend.targets import VisionTask


def dataset_of(targets: np.ndarray, multi_label: bool = False) -> Dataset:
    """Images that nobody looks at."""
    classes = tuple("abcdefgh"[: targets.shape[1]])
    return Dataset(
        "drawn", classes, multi_label, targets, lambda _: Image.new("L", (1, 1)), {}, None, "drawn"
    )


@st.composite
def pools(draw: st.DrawFn) -> Images:
    """Up to 60 images of 2 to 5 classes, at least one of each."""
    classes = draw(st.integers(2, 5))
    labels = np.array([*range(classes), *draw(st.lists(st.integers(0, classes - 1), max_size=55))])
    positions = 3 + 2 * np.arange(len(labels))  # in a dataset that holds others, too
    zeros = np.zeros_like(positions)
    return Images(positions, zeros, np.eye(classes, dtype=np.float32)[labels], zeros)


@st.composite
def several(draw: st.DrawFn) -> Images:
    """Up to 40 images that may have several of 2 to 4 classes, or none."""
    classes = draw(st.integers(2, 4))
    row = st.lists(st.booleans(), min_size=classes, max_size=classes)
    targets = np.array(draw(st.lists(row, min_size=1, max_size=40)), np.float32)
    return as_they_are(dataset_of(targets, multi_label=True), np.arange(len(targets)))


def hardened(pool: Images, hard: HardCases, seed: int = 0, multi_label: bool = False) -> Images:
    return make_hard(dataset_of(pool.targets, multi_label), pool, hard, np.random.default_rng(seed))


def sizes(images: Images) -> list[int]:
    """Of the classes, the largest first."""
    return sorted(images.targets.sum(axis=0).astype(int).tolist(), reverse=True)


@given(pool=pools(), imbalance=st.floats(1, 100), seed=st.integers(0, 9))
def test_imbalance_makes_a_long_tail_of_different_images(pool: Images, imbalance: float, seed: int) -> None:
    made = hardened(pool, HardCases(imbalance=imbalance), seed)
    before, after = sizes(pool), sizes(made)
    rarest = len(before) - 1
    expected = [
        min(size, max(1, round(before[0] * imbalance ** (-rank / rarest))))
        for rank, size in enumerate(before)
    ]
    assert after == sorted(expected, reverse=True)
    assert after[0] == before[0]
    assert len(set(made.positions.tolist())) == len(made)
    assert_as_labeled(made, pool)


@given(pool=pools(), share=st.floats(0, 0.99), seed=st.integers(0, 9))
def test_duplicates_are_copies_of_the_rest_of_the_pool(pool: Images, share: float, seed: int) -> None:
    made = hardened(pool, HardCases(duplicates=share), seed)
    copies = made.variants > 0
    assert len(made) == len(pool)
    assert copies.sum() == min(round(share * len(pool)), len(pool) - 1)
    assert set(made.positions[copies].tolist()) <= set(made.positions[~copies].tolist())
    assert len({*zip(made.positions.tolist(), made.variants.tolist(), strict=True)}) == len(made)
    assert_as_labeled(made, pool)


@given(pool=pools(), times=st.integers(1, 4))
def test_redundancy_repeats_every_image(pool: Images, times: int) -> None:
    made = hardened(pool, HardCases(redundancy=times), 0)
    positions, counts = np.unique(made.positions, return_counts=True)
    assert np.array_equal(positions, pool.positions)
    assert (counts == times).all()
    assert not made.variants.any()
    assert_as_labeled(made, pool)


@given(pool=pools(), share=st.floats(0, 0.99), seed=st.integers(0, 9))
def test_label_noise_gives_a_share_another_class(pool: Images, share: float, seed: int) -> None:
    made = hardened(pool, HardCases(label_noise=share), seed)
    assert np.array_equal(made.positions, pool.positions)
    wrong = (made.targets != pool.targets).any(axis=1)
    assert wrong.sum() == round(share * len(pool))
    assert (made.targets.sum(axis=1) == 1).all()


def test_wrong_labels_are_uniform_over_the_other_classes() -> None:
    targets = np.eye(4, dtype=np.float32)[np.zeros(3000, int)]
    pool = as_they_are(dataset_of(targets), np.arange(3000))
    made = hardened(pool, HardCases(label_noise=0.5), 0)
    wrong = made.targets.sum(axis=0)[1:]
    assert wrong.sum() == 1500
    assert (abs(wrong - 500) < 4 * (1500 * 1 / 3 * 2 / 3) ** 0.5).all()


@settings(max_examples=20)
@given(pool=pools(), seed=st.integers(0, 9))
def test_all_at_once_depend_on_nothing_but_the_seed(pool: Images, seed: int) -> None:
    hard = HardCases(imbalance=3, duplicates=0.3, redundancy=2, label_noise=0.2)
    first, second = (hardened(pool, hard, seed) for _ in range(2))
    for name in ("positions", "variants", "targets", "mistakes"):
        assert np.array_equal(getattr(first, name), getattr(second, name))
    assert len(first) == 2 * sum(sizes(hardened(pool, HardCases(imbalance=3), seed)))


@given(pool=several(), imbalance=st.floats(1, 100), seed=st.integers(0, 9))
def test_imbalance_where_images_have_several_classes(pool: Images, imbalance: float, seed: int) -> None:
    """A class has no more images than it should, but for those that come with a rarer class."""
    made = hardened(pool, HardCases(imbalance=imbalance), seed, multi_label=True)
    counts = pool.targets.sum(axis=0).astype(int)
    order = [column for column in np.argsort(-counts, kind="stable") if counts[column]]
    rarest = max(1, len(order) - 1)
    for rank, column in enumerate(order):
        of_class = made.targets[:, column] > 0
        with_rarer = of_class & (made.targets[:, order[rank + 1 :]] > 0).any(axis=1)
        wanted = min(counts[column], max(1, round(counts.max() * imbalance ** (-rank / rarest))))
        if rank:
            brought_back = len(order) - 1  # at most, for classes that are only seen beside rarer ones
            assert max(1, with_rarer.sum()) <= of_class.sum() <= max(wanted, with_rarer.sum()) + brought_back
        assert of_class.any()
    nothing = (pool.targets == 0).all(axis=1)
    assert (made.targets == 0).all(axis=1).sum() == nothing.sum()
    assert np.array_equal(made.targets, pool.targets[made.positions])


@given(pool=several(), share=st.floats(0, 0.99), seed=st.integers(0, 9))
def test_label_noise_where_images_have_several_classes(pool: Images, share: float, seed: int) -> None:
    """One class goes; another comes, if it was not there yet."""
    made = hardened(pool, HardCases(label_noise=share), seed, multi_label=True)
    change = made.targets - pool.targets
    wrong = change.any(axis=1)
    assert wrong.sum() == min(round(share * len(pool)), pool.targets.any(axis=1).sum())
    assert ((change[wrong] == -1).sum(axis=1) == 1).all()
    assert ((change[wrong] == 1).sum(axis=1) <= 1).all()
    assert not made.mistakes.any()


@given(pools(), pools())
def test_together(first: Images, second: Images) -> None:
    second = replace(second, targets=first.targets[:1].repeat(len(second), axis=0), mistakes=second.positions)
    both = together(first, second)
    assert len(both) == len(first) + len(second)
    for name in ("positions", "variants", "targets", "mistakes"):
        assert np.array_equal(getattr(both.take(np.arange(len(first))), name), getattr(first, name))
        assert np.array_equal(
            getattr(both.take(np.arange(len(first), len(both))), name), getattr(second, name)
        )


def assert_as_labeled(made: Images, pool: Images) -> None:
    labels = dict(zip(pool.positions.tolist(), pool.targets.argmax(axis=1).tolist(), strict=True))
    assert [labels[p] for p in made.positions.tolist()] == made.targets.argmax(axis=1).tolist()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "LA", "CMYK", "I;16", "I", "F"])
def test_a_near_duplicate_is_nearly_the_image(mode: str) -> None:
    ramp = Image.linear_gradient("L").resize((64, 48))
    if mode in ("I;16", "I", "F"):
        levels = np.asarray(ramp).astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode])
        image = Image.fromarray(levels * 16)
    else:
        image = ramp.convert(mode, dither=Image.Dither.NONE)
    copy = near_duplicate(image, position=5, variant=1)
    assert copy.size == image.size
    plain = image.convert(copy.mode)
    difference = np.asarray(copy, float) - np.asarray(plain, float)
    scale = np.ptp(np.asarray(plain, float))
    assert 0 < np.abs(difference).mean() < 0.25 * scale
    assert np.array_equal(np.asarray(copy), np.asarray(near_duplicate(image, 5, 1)))
    assert not np.array_equal(np.asarray(copy), np.asarray(near_duplicate(image, 5, 2)))


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_a_near_duplicate_keeps_its_objects_in_place(task: VisionTask) -> None:
    """Of an image that is dark but for a bright square, the square stays where it is."""
    pixels = np.full((48, 64), 40, np.uint8)
    pixels[10:20, 30:50] = 200
    image = Image.fromarray(pixels).convert("RGB")
    image.info["original_size"] = (640, 480)
    copy = near_duplicate(image, position=5, variant=1, task=task)
    assert not np.array_equal(np.asarray(copy), np.asarray(image))
    assert np.array_equal(np.asarray(copy.convert("L")) > 128, pixels > 128)
    assert copy.info["original_size"] == (640, 480)
    cut = near_duplicate(image, position=5, variant=1)
    assert not np.array_equal(np.asarray(cut.convert("L")) > 128, pixels > 128)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"imbalance": 0.5}, "imbalance is 0.5; write how many times larger, 1 or more"),
        ({"imbalance": float("nan")}, "imbalance is nan"),
        ({"duplicates": 1.0}, "duplicates is 1.0; write a share"),
        ({"label_noise": -0.1}, "label-noise is -0.1; write a share"),
        ({"redundancy": 0}, "redundancy is 0; write how many times"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HardCases(**values)
