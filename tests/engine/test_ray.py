"""The engine on a Ray of this machine, with two actors."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ray

from backend.engine.local import map_images as map_images_here
from backend.engine.ray import BLOCK, Work, map_images


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield "auto"
    ray.shutdown()


class Squares:
    """Makes the work in an actor. killed: a file; where it is missing, the actor dies once, in the middle."""

    def __init__(self, killed: Path | None = None) -> None:
        self._killed = killed

    def __call__(self) -> Work[int, int, np.ndarray]:
        def load(item: int) -> int:
            if item % 100 == 7:
                raise OSError(f"{item} is broken")
            if item == BLOCK + 40 and self._killed is not None and not self._killed.exists():
                self._killed.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return item

        def compute(loaded: list[int]) -> np.ndarray:
            return np.array(loaded, np.float32)[:, None] ** 2

        return Work(load, compute, (OSError,))


def gathered(batches) -> tuple[list[int], list[float], list[tuple[int, str]]]:
    rows, broken = {}, []
    count = 0
    for batch in batches:
        broken += batch.broken
        count += len(batch.items)
        if batch.outputs is not None:
            rows |= dict(zip(batch.items, batch.outputs[:, 0].tolist(), strict=True))
    assert count == len(rows), "an item came back twice"
    return sorted(rows), [rows[item] for item in sorted(rows)], sorted(broken)


def test_the_same_as_in_this_process(cluster: str) -> None:
    work = Squares()()
    here = gathered(map_images_here(range(700), work.load, work.compute, failures=work.failures))
    assert gathered(map_images(range(700), Squares(), address=cluster, workers=2)) == here
    assert len(here[2]) == 7


def test_an_actor_that_is_killed_costs_nothing(cluster: str, tmp_path: Path) -> None:
    found = gathered(map_images(range(1_000), Squares(tmp_path / "killed"), address=cluster, workers=2))
    assert (tmp_path / "killed").exists()
    assert len(found[0]) + len(found[2]) == 1_000


def test_nothing_to_do(cluster: str) -> None:
    assert list(map_images([], Squares(), address=cluster)) == []
