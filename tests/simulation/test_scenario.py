"""What a seed decides."""

import numpy as np
import pytest
from PIL import Image

from backend.simulation.dataset import Dataset
from backend.simulation.hard_cases import HardCases
from backend.simulation.scenario import Scenario, make_scenario, without


def dataset(images: int, test: list[int] | None = None) -> Dataset:
    return Dataset(
        name="made up",
        classes=("cat", "dog"),
        multi_label=False,
        targets=np.eye(2, dtype=np.float32)[np.arange(images) % 2],
        load=lambda position: Image.new("L", (8, 8), position % 256),
        groups={"hour": np.array([str(i % 3) for i in range(images)])},
        test=None if test is None else np.array(test),
        fingerprint="made up",
    )


def parts(scenario: Scenario) -> list[set[int]]:
    return [set(p.positions.tolist()) for p in (scenario.candidates, scenario.audit, scenario.test)]


def test_candidates_audit_and_test_share_nothing_and_miss_nothing() -> None:
    scenario = make_scenario(dataset(100), HardCases(), audit_share=0.2, seed=0)
    candidates, audit, test = parts(scenario)
    assert [len(candidates), len(audit), len(test)] == [60, 15, 25]
    assert candidates | audit | test == set(range(100))


def test_a_test_split_that_comes_with_the_data_stays() -> None:
    scenario = make_scenario(dataset(100, test=[7, 3, 99]), HardCases(), audit_share=0.1, seed=0)
    assert scenario.test.positions.tolist() == [7, 3, 99]
    assert scenario.pool_size == 97


def test_a_large_test_set_is_cut() -> None:
    scenario = make_scenario(dataset(10_000), HardCases(), audit_share=0.1, seed=0)
    assert len(scenario.test) == 2_000
    assert scenario.pool_size == 8_000


def test_the_seed_decides_and_nothing_else_does() -> None:
    hard = HardCases(imbalance=2, duplicates=0.2, label_noise=0.1)
    first, again, other = (make_scenario(dataset(100), hard, 0.1, seed) for seed in (1, 1, 2))
    for name in ("candidates", "audit", "test"):
        assert np.array_equal(getattr(first, name).positions, getattr(again, name).positions)
        assert np.array_equal(getattr(first, name).targets, getattr(again, name).targets)
    assert all(a != b for a, b in zip(parts(first), parts(other), strict=True))


def test_hard_cases_leave_the_test_set_alone() -> None:
    hard = HardCases(imbalance=10, duplicates=0.5, redundancy=3, label_noise=0.5)
    easy, made = (make_scenario(dataset(100), cases, 0.1, 0) for cases in (HardCases(), hard))
    assert np.array_equal(made.test.positions, easy.test.positions)
    assert np.array_equal(made.test.targets, easy.test.targets)
    assert not made.test.variants.any()
    candidates, audit, test = parts(made)
    assert not test & (candidates | audit)


def test_images_that_cannot_be_read_are_left_out_everywhere() -> None:
    scenario = make_scenario(dataset(40), HardCases(redundancy=2), audit_share=0.1, seed=0)
    broken = frozenset(min(part) for part in parts(scenario))
    readable = without(scenario, broken)
    assert not broken & set().union(*parts(readable))
    assert [sorted(part) for part in parts(readable)] == [sorted(part - broken) for part in parts(scenario)]


def test_too_small_a_dataset_is_refused() -> None:
    with pytest.raises(ValueError, match="has 1 images; that is too few"):
        make_scenario(dataset(1), HardCases(), audit_share=0.1, seed=0)
