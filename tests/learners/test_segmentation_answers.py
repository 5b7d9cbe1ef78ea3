import tracemalloc

import numpy as np
import pytest

from backend.learners.segmentation import MaskAnswers, label_map
from backend.learners.segmentation.answers import CompressedMap, without_specks
from backend.targets import Bitmap, MaskTarget
from strategies import Entropy, Pool, strategy

CLASSES = ("road", "car")
MEMBERS, CELLS, PIXELS = 2, 4, 3


def answers(
    maps: list[np.ndarray], sizes: list[tuple[int, int]], background: bool = True, seed: int = 0
) -> MaskAnswers:
    rng = np.random.default_rng(seed)
    values = len(CLASSES) + background
    return MaskAnswers(
        CLASSES,
        background,
        rng.dirichlet(np.ones(values), (MEMBERS, len(maps), CELLS, PIXELS)).astype(np.float16),
        rng.uniform(0.5, 1, (len(maps), values)).astype(np.float32),
        tuple(CompressedMap.of(one.astype(np.uint8), size) for one, size in zip(maps, sizes, strict=True)),
    )


def halves(height: int = 32, width: int = 64) -> np.ndarray:
    """Background above, road below on the left, car on the right."""
    values = np.zeros((height, width), np.uint8)
    values[height // 2 :, : width // 2] = 1
    values[height // 2 :, width // 2 :] = 2
    return values


def test_the_fields_of_the_pool() -> None:
    given = answers([halves()] * 3, [(64, 32)] * 3)
    pool = Pool(3, multi_label=True, classes=CLASSES, **given.pool_fields())
    cells = pool.require_units()
    pixels = cells.pool.require_units()
    assert (cells.pool.size, pixels.pool.size) == (3 * CELLS, 3 * CELLS * PIXELS)
    assert cells.owners.tolist() == np.repeat(range(3), CELLS).tolist()
    assert pixels.owners.tolist() == np.repeat(range(3 * CELLS), PIXELS).tolist()
    samples = given.samples.astype(float)
    np.testing.assert_allclose(pixels.pool.committee[:, 5], samples[:, 0, 1, 2], atol=1e-6)
    np.testing.assert_allclose(cells.pool.committee[:, 5], samples[:, 1, 1].mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(pool.committee, samples.mean(axis=3).max(axis=2)[:, :, 1:], atol=1e-6)
    assert cells.pool.classes == ("background", *CLASSES)


def test_regions_and_regions_in_regions() -> None:
    given = answers([halves()] * 3, [(64, 32)] * 3)
    pool = Pool(3, multi_label=True, classes=CLASSES, **given.pool_fields())
    mean = given.samples.astype(np.float32).mean(axis=0, dtype=float)
    entropy = -(mean * np.log(mean)).sum(axis=-1)  # (images, cells, pixels)
    by_pixel = strategy("{regions: {score: {regions: {score: entropy, reduction: mean}}, reduction: mean}}")
    np.testing.assert_allclose(by_pixel.scores(pool), entropy.mean(axis=(1, 2)), rtol=1e-5)
    by_region = strategy(
        "{regions: {score: {regions: {score: entropy, reduction: mean}}, reduction: top_k_mean}}"
    )
    of_cells = np.sort(entropy.mean(axis=2), axis=1)[:, ::-1]
    np.testing.assert_allclose(by_region.scores(pool), of_cells[:, :3].mean(axis=1), rtol=1e-5)
    for spec in (
        "{regions: entropy}",
        "{regions: {score: {regions: {score: bald, reduction: mean}}}}",
        "{regions: {score: region_impurity, reduction: top_k_mean}}",
        "margin",
        "bald",
    ):
        ranking = strategy(spec).rank(pool, 3, batch_size=3, seed=0)
        assert sorted(ranking.indices.tolist()) == [0, 1, 2]
        assert np.isfinite(ranking.scores).all() and all(ranking.reasons)


def test_a_learner_without_background_says_nothing_of_it() -> None:
    given = answers([halves() + 1], [(64, 32)], background=False)
    fields = given.pool_fields()
    assert fields["committee"].shape == (MEMBERS, 1, 2)
    assert fields["units"].pool.classes == CLASSES
    assert Entropy().scores(fields["units"].pool).shape == (CELLS,)


def test_taken_and_put_together() -> None:
    whole = answers([halves(), halves(64, 32), halves()], [(64, 32), (32, 64), (640, 320)])
    parts = MaskAnswers.concatenate([whole.take(np.array([2])), whole.take(np.array([0, 1]))])
    assert len(parts) == 3
    for new, old in enumerate((2, 0, 1)):
        assert parts.prediction(new) == whole.prediction(old)
        assert (parts.samples[:, new] == whole.samples[:, old]).all()


@pytest.mark.parametrize("size", [(64, 32), (640, 320), (37, 19), (1, 1)])
def test_a_prediction_is_a_region_for_each_class_at_the_original_size(size: tuple[int, int]) -> None:
    given = answers([halves()], [size])
    prediction = given.prediction(0)
    target = prediction.target
    assert isinstance(target, MaskTarget) and prediction.size == (target.width, target.height) == size
    assert all(isinstance(region, Bitmap) for region in target.regions)
    assert [region.label for region in target.regions] == list(CLASSES)
    assert list(prediction.confidences) == given.confidences[0, 1:].tolist()
    assert prediction.confidence == pytest.approx(given.confidences[0] @ [0.5, 0.25, 0.25])
    if size != (1, 1):
        drawn = label_map(target, CLASSES, *size)
        rows, columns = (
            ((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(size[::-1], (32, 64), strict=True)
        )
        assert (drawn == halves()[np.ix_(rows, columns)]).mean() > 0.95


def test_an_image_of_nothing() -> None:
    given = answers([np.zeros((32, 32))], [(50, 50)])
    prediction = given.prediction(0)
    assert isinstance(prediction.target, MaskTarget)
    assert (prediction.target.regions, list(prediction.confidences)) == ((), [])
    assert prediction.confidence == pytest.approx(given.confidences[0, 0])


def test_specks_go_to_what_surrounds_them() -> None:
    values = halves(128, 128)
    noisy = values.copy()
    noisy[100, 30] = 2  # in the road
    noisy[10, 10:13] = 1  # in the background
    noisy[90:94, 90:94] = 0  # a hole in the car, of 16 pixels of 16384: not so small
    cleaned = without_specks(noisy)
    values[90:94, 90:94] = 0
    assert (cleaned == values).all()
    checkered = np.indices((128, 128)).sum(axis=0).astype(np.uint8) % 2
    assert (
        without_specks(checkered) == checkered
    ).all()  # where all is specks, there is nothing to give them to


def test_a_prediction_of_fifty_million_pixels_is_made_a_class_at_a_time() -> None:
    given = answers([halves(192, 256)], [(8000, 6250)])
    tracemalloc.start()
    prediction = given.prediction(0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 160e6  # three arrays of a byte a pixel
    assert isinstance(prediction.target, MaskTarget)
    assert len(prediction.target.regions) == 2
    assert (label_map(prediction.target, CLASSES, 256, 192) == halves(192, 256)).mean() > 0.99
