"""The hard cases do to the pool what they say, and to nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from backend.simulation.hard_cases import HardCases, Images, make_hard, near_duplicate


@st.composite
def pools(draw: st.DrawFn) -> Images:
    """Up to 60 images of 2 to 5 classes, at least one of each."""
    classes = draw(st.integers(2, 5))
    labels = np.array([*range(classes), *draw(st.lists(st.integers(0, classes - 1), max_size=55))])
    positions = 3 + 2 * np.arange(len(labels))  # in a dataset that holds others, too
    return Images(positions, np.zeros_like(positions), np.eye(classes, dtype=np.float32)[labels])


def sizes(images: Images) -> list[int]:
    """Of the classes, the largest first."""
    return sorted(images.targets.sum(axis=0).astype(int).tolist(), reverse=True)


@given(pool=pools(), imbalance=st.floats(1, 100), seed=st.integers(0, 9))
def test_imbalance_makes_a_long_tail_of_different_images(pool: Images, imbalance: float, seed: int) -> None:
    made = make_hard(pool, HardCases(imbalance=imbalance), np.random.default_rng(seed))
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
    made = make_hard(pool, HardCases(duplicates=share), np.random.default_rng(seed))
    copies = made.variants > 0
    assert len(made) == len(pool)
    assert copies.sum() == min(round(share * len(pool)), len(pool) - 1)
    assert set(made.positions[copies].tolist()) <= set(made.positions[~copies].tolist())
    assert len({*zip(made.positions.tolist(), made.variants.tolist(), strict=True)}) == len(made)
    assert_as_labeled(made, pool)


@given(pool=pools(), times=st.integers(1, 4))
def test_redundancy_repeats_every_image(pool: Images, times: int) -> None:
    made = make_hard(pool, HardCases(redundancy=times), np.random.default_rng(0))
    positions, counts = np.unique(made.positions, return_counts=True)
    assert np.array_equal(positions, pool.positions)
    assert (counts == times).all()
    assert not made.variants.any()
    assert_as_labeled(made, pool)


@given(pool=pools(), share=st.floats(0, 0.99), seed=st.integers(0, 9))
def test_label_noise_gives_a_share_another_class(pool: Images, share: float, seed: int) -> None:
    made = make_hard(pool, HardCases(label_noise=share), np.random.default_rng(seed))
    assert np.array_equal(made.positions, pool.positions)
    wrong = (made.targets != pool.targets).any(axis=1)
    assert wrong.sum() == round(share * len(pool))
    assert (made.targets.sum(axis=1) == 1).all()


def test_wrong_labels_are_uniform_over_the_other_classes() -> None:
    targets = np.eye(4, dtype=np.float32)[np.zeros(3000, int)]
    pool = Images(np.arange(3000), np.zeros(3000, int), targets)
    made = make_hard(pool, HardCases(label_noise=0.5), np.random.default_rng(0))
    wrong = made.targets.sum(axis=0)[1:]
    assert wrong.sum() == 1500
    assert (abs(wrong - 500) < 4 * (1500 * 1 / 3 * 2 / 3) ** 0.5).all()


@settings(max_examples=20)
@given(pool=pools(), seed=st.integers(0, 9))
def test_all_at_once_depend_on_nothing_but_the_seed(pool: Images, seed: int) -> None:
    hard = HardCases(imbalance=3, duplicates=0.3, redundancy=2, label_noise=0.2)
    first, second = (make_hard(pool, hard, np.random.default_rng(seed)) for _ in range(2))
    for name in ("positions", "variants", "targets"):
        assert np.array_equal(getattr(first, name), getattr(second, name))
    assert len(first) == 2 * sum(sizes(make_hard(pool, HardCases(imbalance=3), np.random.default_rng(seed))))


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


def test_what_wants_one_class_an_image_is_refused_where_there_may_be_several() -> None:
    HardCases(duplicates=0.5, redundancy=2).check_for(multi_label=True)
    for hard in (HardCases(imbalance=2), HardCases(label_noise=0.1)):
        hard.check_for(multi_label=False)
        with pytest.raises(ValueError, match="one class each"):
            hard.check_for(multi_label=True)
