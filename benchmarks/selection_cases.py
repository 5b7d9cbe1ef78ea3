"""What benchmarks/selection.py measures: the data, and how each library is asked for the same picks."""

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strategies import KCenterGreedy, Margin, Need, Pool, Units, Validation, strategy

DIMENSIONS, LABELED, MEMBERS, CLASSES = 384, 100, 10, 10
PRODUCT = "{product: {objectives: [k_center_greedy, margin, balance]}}"
WEATHER = np.array(["fog", "rain", "sun"])
_BLOCK = 50_000

Floats = NDArray[np.float32]
Picks = NDArray[np.int64]


@dataclass(frozen=True)
class Case:
    """One selection: `picks` of `size` images of one kind of data, by one library.

    what: "k_center_greedy" and PRODUCT are asked of any library, other specs of ours alone.
    """

    library: str
    what: str
    data: str
    size: int
    picks: int


@dataclass(frozen=True)
class Outcome:
    """Of the quickest of up to three runs. gigabytes: peak of the process, the data included."""

    seconds: float
    cpu_seconds: float
    gigabytes: float
    picks: Picks


def make_data(folder: Path, data: str, size: int) -> None:
    """Write embeddings, labeled ones first, and the committee's probabilities, unless they are there.

    "gaussian" is one cloud. "clusters" is like what an embedder gives: rows of unit length, in clusters of very
    different sizes, each with few directions of its own; one image in ten is nearly another one.
    """
    rng = np.random.default_rng(0)
    embeddings = _create(folder / f"{data}-{size}.npy", (LABELED + size, DIMENSIONS))
    if embeddings is not None:
        count, own = 100, 12
        centers = rng.normal(size=(count, DIMENSIONS)).astype(np.float32)
        directions = rng.normal(size=(count, own, DIMENSIONS)).astype(np.float32) / own**0.5
        weights = rng.dirichlet(np.full(count, 0.5))
        for start in range(0, len(embeddings), _BLOCK):
            rows = rng.standard_normal((min(_BLOCK, len(embeddings) - start), DIMENSIONS), dtype=np.float32)
            if data == "clusters":
                cluster = np.sort(rng.choice(count, len(rows), p=weights))
                rows = rows / 4 + centers[cluster]
                for index in np.unique(cluster):
                    here = np.flatnonzero(cluster == index)
                    rows[here] += rng.standard_normal((len(here), own), dtype=np.float32) @ directions[index]
                again = rng.choice(len(rows), len(rows) // 10)
                rows[again] = rows[rng.permutation(again)] + rows[again] / 100
                rows = rng.permutation(rows / np.linalg.norm(rows, axis=1, keepdims=True))
            embeddings[start : start + len(rows)] = rows
    committee = _create(folder / f"committee-{size}.npy", (MEMBERS, size, CLASSES))
    if committee is not None:
        for start in range(0, size, _BLOCK):
            logits = 2 * rng.standard_normal((min(_BLOCK, size - start), CLASSES), dtype=np.float32)
            for member in committee:
                own_logits = logits + rng.standard_normal(logits.shape, dtype=np.float32) / 2
                p = np.exp(own_logits - own_logits.max(axis=1, keepdims=True))
                member[start : start + len(p)] = p / p.sum(axis=1, keepdims=True)


def _create(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    return None if path.exists() else np.lib.format.open_memmap(path, "w+", np.float32, shape)


def run(case: Case, folder: Path, answer: Connection) -> None:
    """Measure a case in this process, which is its own, and send the outcome."""
    select = _prepared(case, folder)
    times: list[tuple[float, float]] = []
    while not times or (len(times) < 3 and sum(seconds for seconds, _ in times) < 3):
        started, cpu_started = time.perf_counter(), time.process_time()
        picks = select()
        times.append((time.perf_counter() - started, time.process_time() - cpu_started))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    answer.send(Outcome(*min(times), peak / 1e9, np.asarray(picks, dtype=np.int64)))


def _prepared(case: Case, folder: Path) -> Callable[[], Any]:
    """What is to be timed: from arrays in memory to picks, with the library imported."""
    rows: Floats = np.load(folder / f"{case.data}-{case.size}.npy")
    match case.library:
        case "ours":
            return _ours(case, folder, rows)
        case "lightly-mundig":
            return _mundig(case, folder, rows)
        case "scikit-activeml":
            return _scikit_activeml(case, rows)
        case "small-text":
            return _small_text(case, rows)
        case _:
            return _pass_per_pick(case, rows)


def _ours(case: Case, folder: Path, rows: Floats) -> Callable[[], Picks]:
    asked = KCenterGreedy() if case.what == "k_center_greedy" else strategy(case.what)
    known = _known(case, folder, rows, asked.needs)

    def select() -> Picks:
        return asked.rank(Pool(case.size, **known), case.picks, batch_size=100, seed=0).indices

    return select


def _known(case: Case, folder: Path, rows: Floats, needs: frozenset[Need]) -> dict[str, Any]:
    """What a pool holds for these needs, as the loop would compute it, and no more."""
    rng = np.random.default_rng(1)
    known: dict[str, Any] = {}
    for need in needs:
        match need:
            case Need.PROBABILITIES | Need.COMMITTEE:
                known["committee"] = np.load(folder / f"committee-{case.size}.npy")
            case Need.EMBEDDINGS | Need.FEATURES:
                known[need.value] = rows[LABELED:]
            case Need.LABELED_EMBEDDINGS:
                known["labeled_embeddings"] = rows[:LABELED]
            case Need.LABELED_TARGETS:
                known["labeled_targets"] = labeled_targets()
            case Need.VALIDATION:
                known["validation"] = Validation(
                    rng.permutation(rows[:2000]), rng.random(min(2000, len(rows))) < 0.8
                )
            case Need.UNITS:
                owners = np.repeat(np.arange(case.size), 2)
                committee = np.load(folder / f"committee-{case.size}.npy").repeat(2, axis=1)
                known["units"] = Units(Pool(len(owners), committee=committee), owners)
            case Need.GROUPS:
                known["groups"] = {"weather": rng.choice(WEATHER, case.size, p=[0.02, 0.28, 0.7])}
                known["labeled_groups"] = {"weather": rng.choice(WEATHER, LABELED, p=[0.02, 0.28, 0.7])}
            case _:
                known[need.value] = rows[:1000] + np.float32(0.1)
    return known


def labeled_targets() -> Floats:
    """A labeled set with far more of some classes than of others."""
    shares = np.arange(1, CLASSES + 1) / np.arange(1, CLASSES + 1).sum()
    return np.eye(CLASSES, dtype=np.float32)[np.random.default_rng(2).choice(CLASSES, LABELED, p=shares)]


def _mundig(case: Case, folder: Path, rows: Floats) -> Callable[[], Picks]:
    from lightly_mundig import Selection

    committee = np.load(folder / f"committee-{case.size}.npy") if case.what == PRODUCT else None

    def select() -> Picks:
        selection = Selection()
        selection.add_diversifying_strategy(rows, 1.0)
        if committee is not None:
            pool = Pool(case.size, committee=committee)
            weights = np.concatenate([np.zeros(LABELED), Margin().scores(pool)])
            selection.add_weighting_strategy(weights, 1.0)
            classes = np.concatenate([labeled_targets(), pool.probabilities.astype(np.float32)])
            selection.add_balancing_strategy(classes, [1 / CLASSES] * CLASSES, 1.0)
        chosen = selection.run_selection(list(range(LABELED)), len(rows), LABELED + case.picks)
        return np.array(chosen[LABELED:]) - LABELED

    return select


def _scikit_activeml(case: Case, rows: Floats) -> Callable[[], Picks]:
    from skactiveml.pool import CoreSet

    labels = np.full(len(rows), np.nan)
    labels[:LABELED] = 0

    def select() -> Picks:
        picks: Picks = CoreSet(random_state=0).query(rows, labels, batch_size=case.picks) - LABELED
        return picks

    return select


def _small_text(case: Case, rows: Floats) -> Callable[[], Picks]:
    from small_text.query_strategies.coresets import greedy_coreset

    unlabeled_first = np.roll(rows, -LABELED, axis=0)  # the only order in which it is right
    unlabeled, labeled = np.split(np.arange(len(rows)), [case.size])

    def select() -> Picks:
        picks: Picks = greedy_coreset(
            unlabeled_first, unlabeled, labeled, case.picks, distance_metric="euclidean", batch_size=2048
        )
        return picks

    return select


def _pass_per_pick(case: Case, rows: Floats) -> Callable[[], Picks]:
    """The plain method: all distances to the latest pick, in one product of a matrix and a vector."""
    import torch

    labeled, points = torch.from_numpy(rows[:LABELED]), torch.from_numpy(rows[LABELED:])

    def select() -> Picks:
        norms = points.square().sum(dim=1)
        nearest = (norms[:, None] - 2 * points @ labeled.T + labeled.square().sum(dim=1)).amin(dim=1)
        picks = []
        for _ in range(case.picks):
            pick = int(nearest.argmax())
            picks.append(pick)
            distances = torch.addmv(norms, points, points[pick], alpha=-2) + norms[pick]
            nearest = torch.minimum(nearest, distances)
            nearest[pick] = -torch.inf
        return np.array(picks)

    return select
