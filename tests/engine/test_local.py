import threading
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from backend.engine.local import BATCHES_AHEAD, map_images
from backend.engine.work import Work, reason_of


def draw(level: int) -> Image.Image:
    return Image.new("L", (4, 3), level)


def first_pixels(images):
    return np.array([[image.getpixel((0, 0)), image.width] for image in images])


def loader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("load-image")]


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 50])
def test_every_item_is_computed_once_in_order(count):
    batches = list(map_images(range(count), Work(draw, first_pixels, ()), batch_size=8))
    assert [item for batch in batches for item in batch.items] == list(range(count))
    assert all(len(batch.items) <= 8 for batch in batches)
    for batch in batches:
        assert batch.outputs.tolist() == [[item, 4] for item in batch.items]


def test_a_broken_image_costs_one_item():
    good = BytesIO()
    draw(9).save(good, "PNG")

    def decode(content: bytes) -> Image.Image:
        image = Image.open(BytesIO(content))
        image.load()
        return image

    contents = [good.getvalue(), b"not an image", good.getvalue()[:-30], good.getvalue()]
    [batch] = map_images(contents, Work(decode, first_pixels, (OSError, SyntaxError)))
    assert batch.items == [contents[0], contents[3]]
    assert batch.outputs.tolist() == [[9, 4], [9, 4]]
    assert [content for content, _ in batch.broken] == contents[1:3]
    assert all(reason_of(error) for _, error in batch.broken)


def test_a_wholly_broken_batch_is_not_computed():
    def load(item: int) -> Image.Image:
        raise TimeoutError

    batches = list(map_images(range(3), Work(load, first_pixels, (TimeoutError,)), batch_size=2))
    assert [[(item, reason_of(error)) for item, error in batch.broken] for batch in batches] == [
        [(0, "TimeoutError"), (1, "TimeoutError")],
        [(2, "TimeoutError")],
    ]
    assert all(batch.items == [] and batch.outputs is None for batch in batches)


def test_other_exceptions_propagate_and_stop_the_threads():
    def load(item: int) -> Image.Image:
        if item == 5:
            raise KeyError("a defect, not a broken image")
        return draw(item)

    with pytest.raises(KeyError, match="defect"):
        list(map_images(range(50), Work(load, first_pixels, (OSError,)), batch_size=2))
    assert loader_threads() == []


def test_loading_runs_ahead_of_compute_but_only_so_far():
    loaded: list[int] = []
    second_batch_loaded = threading.Event()

    def load(item: int) -> Image.Image:
        loaded.append(item)
        if item == 7:
            second_batch_loaded.set()
        return draw(item)

    def compute(images):
        # Deadlocks until the timeout if loading waits for compute.
        assert second_batch_loaded.wait(10)
        return first_pixels(images)

    batches = map_images(range(1000), Work(load, compute, ()), batch_size=4)
    next(batches)
    batches.close()
    assert len(loaded) <= (1 + BATCHES_AHEAD) * 4


def test_closing_stops_the_threads():
    batches = map_images(range(1000), Work(draw, first_pixels, ()), batch_size=2)
    next(batches)
    assert loader_threads()
    batches.close()
    assert loader_threads() == []


def test_compute_must_return_a_row_per_image():
    with pytest.raises(ValueError, match="1 rows for 3 images"):
        list(map_images(range(3), Work(draw, lambda images: np.zeros((1, 2)), ())))
