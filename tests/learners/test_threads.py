"""How many threads a training computes with."""

import pytest
import torch
from threadpoolctl import threadpool_limits

from backend.learners.threads import PIXELS_A_THREAD, threads_for


@pytest.mark.parametrize(
    ("pixels", "threads"), [(1, 1), (1.9 * PIXELS_A_THREAD, 1), (3 * PIXELS_A_THREAD, 3), (1e9, 4)]
)
def test_small_images_are_worth_one_thread(pixels: float, threads: int) -> None:
    before = torch.get_num_threads()
    with threadpool_limits(4, user_api="openmp"):  # as on a machine with four cores
        with threads_for(pixels):
            assert torch.get_num_threads() == threads
        assert torch.get_num_threads() == 4
    assert torch.get_num_threads() == before
