"""A round on a pool of a million tasks: seconds and memory by step, each beside the least that it could take.

    python benchmarks/large_pool.py [--tasks 1000000] [--dimensions 384] [--labels 500]

The store is filled with tasks and embeddings (clusters of normal vectors, one for each class), as if the background
had embedded them; then the steps fit, evaluate, score and select of a real round run in a process of their own. What
talks to Label Studio (sync, publish) costs the same whatever the pool, see benchmarks/loop.py. The bound is one pass
over the embeddings on disk and one matrix product with the committee's heads. Timings of one run on one machine;
compare the ratios.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from sqlalchemy import insert

from backend.deployment import Deployment
from backend.loop.round_run import RoundRun
from backend.loop.rounds import start_round
from backend.loop.steps import STEPS
from backend.settings import Settings
from backend.store.leases import lease
from backend.store.tables import Project, ProjectState, Task, now

CLASSES = tuple("0123456789")
EMBEDDER = "made-up"
CHUNK = 50_000
CONFIG = '<View><Image name="image" value="$image"/><Choices name="digit" toName="image">{}</Choices></View>'.format(
    "".join(f'<Choice value="{name}"/>' for name in CLASSES)
)


def deployment_in(folder: Path) -> Deployment:
    """A deployment without a Label Studio."""
    settings = Settings(_env_file=None, model_dir=folder, label_studio_api_key=SecretStr("none"))
    deployment = Deployment(settings)
    deployment.prepare()
    return deployment


def fill(deployment: Deployment, tasks: int, dimensions: int, labels: int) -> None:
    """A project whose images are all embedded, and the first of which are labeled."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(len(CLASSES), dimensions)).astype(np.float32)
    with deployment.database.write() as session:
        session.add(
            Project(id=1, title="Large", state=ProjectState.ACTIVE, label_config=CONFIG, synced_until=now())
        )
    for start in range(1, tasks + 1, CHUNK):
        ids = range(start, min(start + CHUNK, tasks + 1))
        which = rng.integers(len(CLASSES), size=len(ids))
        vectors = centres[which] + 2 * rng.normal(size=(len(ids), dimensions)).astype(np.float32)
        deployment.embeddings.append(1, EMBEDDER, list(ids), vectors)
        rows = [
            {
                "project_id": 1,
                "id": task_id,
                "source": f"/data/local-files/?d=images/{task_id}.jpg",
                "labeled": task_id <= labels,
                "target": {"digit": {"votes": {CLASSES[kind]: 1.0}, "annotators": 1, "multiple": False}}
                if task_id <= labels
                else None,
                "audit": task_id % 10 == 0,
                "embedded": EMBEDDER,
            }
            for task_id, kind in zip(ids, which.tolist(), strict=True)
        ]
        with deployment.database.write() as session:
            session.execute(insert(Task), rows)


def run_steps(deployment: Deployment) -> dict[str, float]:
    """Seconds of each step of a round on that store."""
    started = start_round(deployment, 1, "a benchmark", "fit")
    seconds = {}
    with lease(deployment.database, "round:1") as held:
        assert held is not None
        run = RoundRun(deployment, started.id, held)
        run.note(label_config=CONFIG)
        run.note_facts(
            embedder=EMBEDDER, embedder_folder="none", learner_dimensions=None, to_embed=0, labels=0
        )
        for name in ("fit", "evaluate", "score", "select"):
            begun = time.perf_counter()
            STEPS[name](run)
            seconds[name] = time.perf_counter() - begun
    return seconds


def bound(deployment: Deployment) -> float:
    """Seconds for one pass over the embeddings and one product with the heads of eight members."""
    heads = np.random.default_rng(0).normal(size=(8 * len(CLASSES),)).astype(np.float32)
    begun = time.perf_counter()
    _, vectors = deployment.embeddings.read(1, EMBEDDER)
    _ = vectors @ np.tile(heads, (vectors.shape[1], 1))
    return time.perf_counter() - begun


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--labels", type=int, default=500)
    parser.add_argument("--in", dest="folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    console = Console()
    if options.folder is not None:  # the process that is measured
        deployment = deployment_in(options.folder)
        seconds = run_steps(deployment)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        least = bound(deployment)
        table = Table("step", "seconds", "bounds", title=f"{options.tasks:,} tasks × {options.dimensions}")
        for name, taken in seconds.items():
            table.add_row(name, f"{taken:.1f}", f"{taken / least:.1f}")
        table.add_row("all", f"{sum(seconds.values()):.1f}", f"{sum(seconds.values()) / least:.1f}")
        console.print(table)
        console.print(f"Bound {least:.1f} s; peak memory {peak:.1f} GiB")
        return
    with tempfile.TemporaryDirectory() as name:
        begun = time.perf_counter()
        fill(deployment_in(Path(name)), options.tasks, options.dimensions, options.labels)
        console.print(f"Filled in {time.perf_counter() - begun:.0f} s.")
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--in", name], check=True)


if __name__ == "__main__":
    main()
