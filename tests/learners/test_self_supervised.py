import numpy as np
import pytest
from PIL import Image, ImageChops
from sklearn.datasets import load_digits

from backend.learners.self_supervised import FILE, SelfSupervisedEmbedder


def drawn(seed: int, size=(70, 50), mode="RGB") -> Image.Image:
    """Coloured blocks, different for every seed."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).convert(mode)


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.images))[:700]
    images = [Image.fromarray((data.images[i] * 15).astype(np.uint8)).resize((64, 64)) for i in order]
    return images, data.target[order]


@pytest.fixture(scope="module")
def embedder(digits):
    return SelfSupervisedEmbedder.train(digits[0][:200])


def nearest_neighbour_accuracy(vectors, labels, known=100):
    nearest = (vectors[known:] @ vectors[:known].T).argmax(axis=1)
    return (labels[:known][nearest] == labels[known:]).mean()


def test_neighbours_share_a_class_more_often_than_by_pixels(digits, embedder):
    images, labels = digits
    pixels = np.stack([np.asarray(image).ravel() for image in images]).astype(np.float32)
    pixels -= pixels.mean(axis=0)
    pixels /= np.linalg.norm(pixels, axis=1, keepdims=True)
    by_pixels = nearest_neighbour_accuracy(pixels, labels)
    assert nearest_neighbour_accuracy(embedder.embed(images), labels) > by_pixels + 0.03


def test_rows_have_length_one_and_do_not_depend_on_their_batch(digits, embedder):
    images = digits[0][:40]
    vectors = embedder.embed(images)
    assert vectors.shape == (40, embedder.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(embedder.embed(images[7:9]), vectors[7:9], atol=1e-5)


def test_the_same_images_and_seed_give_the_same_embedder(digits, embedder):
    again = SelfSupervisedEmbedder.train(digits[0][:200])
    assert again.name == embedder.name
    assert np.array_equal(again.embed(digits[0][:5]), embedder.embed(digits[0][:5]))


def test_saved_and_loaded(digits, embedder, tmp_path):
    embedder.save(tmp_path)
    loaded = SelfSupervisedEmbedder.load(tmp_path)
    assert loaded.name == embedder.name
    assert np.array_equal(loaded.embed(digits[0][:5]), embedder.embed(digits[0][:5]))
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_five_photographs_are_enough_to_recognise_them_shifted():
    images = [drawn(seed) for seed in range(5)]
    embedder = SelfSupervisedEmbedder.train(images, seed=1)
    shifted = embedder.embed([ImageChops.offset(image, 3, 2) for image in images])
    assert (shifted @ embedder.embed(images).T).argmax(axis=1).tolist() == [0, 1, 2, 3, 4]


def test_any_mode_and_shape_is_embedded(embedder):
    images = [drawn(0, mode=mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F")]
    images += [drawn(0, size) for size in ((1, 1), (3, 500), (900, 4))]
    deep = np.linspace(0, 4095, 64 * 64).reshape(64, 64).astype(np.uint16)
    images.append(Image.fromarray(deep))
    vectors = embedder.embed(images)
    assert np.isfinite(vectors).all()
    # 12 bits in a 16-bit file are seen as the same picture in 8 bits is
    same = embedder.embed([Image.fromarray((deep >> 4).astype(np.uint8))])
    assert vectors[-1] @ same[0] > 0.9


@pytest.mark.parametrize("count", [1, 2])
def test_a_pool_of_blank_images_is_no_obstacle(count):
    embedder = SelfSupervisedEmbedder.train([Image.new("L", (20, 20), 128)] * count)
    assert np.isfinite(embedder.embed([Image.new("L", (20, 20), 128), drawn(0)])).all()
