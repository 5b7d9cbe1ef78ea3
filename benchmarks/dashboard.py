"""How fast the dashboard answers on a large project: server time of every page, on a made-up store.

    python benchmarks/dashboard.py [--tasks 100000] [--labels 20000] [--rounds 1000]

Beside each page stands the bound in the same run: counting the project's tasks in the database once, which no page
that tells how many there are can go below.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, insert, select

from backend.app import create_app
from backend.settings import Settings
from backend.store.database import Database
from backend.store.tables import Project, ProjectState, QueueEntry, Round, RoundState, Task, now

PAGES = (
    "/",
    "",
    "/state",
    "/queue",
    "/queue?page=100",
    "/map",
    "/map/points",
    "/labels",
    "/rounds",
    "/settings",
    "/curves",
)
CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="kind" toName="image"><Choice value="cat"/>'
    '<Choice value="dog"/></Choices></View>'
)
QUEUE = 5_000
REPEATS = 7


def fill(database: Database, tasks: int, labels: int, rounds: int) -> None:
    """A project that has been labeled for long."""
    rng = random.Random(0)
    votes = {
        name: {"kind": {"votes": {name: 1.0}, "annotators": 1, "multiple": False}} for name in ("cat", "dog")
    }
    with database.write() as session:
        session.add(
            Project(id=1, title="Large", state=ProjectState.ACTIVE, label_config=CONFIG, synced_until=now())
        )
        session.flush()
        session.execute(
            insert(Task),
            [
                {
                    "project_id": 1,
                    "id": task_id,
                    "source": f"/data/local-files/?d=images/{task_id}.jpg",
                    "labeled": task_id <= labels,
                    "target": votes[rng.choice(("cat", "dog"))] if task_id <= labels else None,
                    "audit": task_id % 10 == 0,
                    "groups": {"weather": rng.choice(("sun", "rain", "snow"))},
                    "embedded": "small",
                }
                for task_id in range(1, tasks + 1)
            ],
        )
        for number in range(rounds):
            share = number / rounds
            session.add(
                _round(
                    number, int(labels * share), 0.5 + 0.45 * share, now() - timedelta(hours=rounds - number)
                )
            )
        session.flush()
        last = session.scalars(select(Round.id).order_by(Round.number.desc()).limit(1)).one()
        session.get_one(Project, 1).published_round = last
        session.execute(
            insert(QueueEntry),
            [
                {
                    "round_id": last,
                    "rank": rank,
                    "task_id": labels + 1 + rank,
                    "score": 0.5,
                    "reason": 'between "cat" (51%) and "dog" (49%)',
                    "published": rank < QUEUE // 5,
                    "prediction": {"confidence": 0.51, "labels": {"cat": 1}},
                }
                for rank in range(min(QUEUE, tasks - labels))
            ],
        )


def _round(number: int, labels: int, score: float, at: object) -> Round:
    measured = {
        "metric": "accuracy",
        "score": score,
        "interval": [score - 0.02, score + 0.02],
        "total": labels // 10,
    }
    control = {
        "task": "classification",
        "trained": True,
        "training": labels,
        "strategy": "default",
        "measured": measured,
    }
    return Round(
        project_id=1,
        number=number,
        version=f"round-{number}",
        reason="20 new labels",
        state=RoundState.DONE,
        step="decide",
        seconds={"sync": 0.4, "fit": 1.0, "score": 1.1, "publish": 1.0},
        label_config=CONFIG,
        trained=True,
        facts={
            "labels": labels,
            "controls": {"kind": control | {"classes": {"cat": labels / 2, "dog": labels / 2}}},
            "embedder": "small",
            "disagreements": list(range(1, 200)),
        },
        started_at=at,
        published_at=at,
        finished_at=at,
        log="10:00:00 fit took 1.00 s\n" * 100,
    )


def median_ms(act: Callable[[], object]) -> float:
    """Milliseconds; the first time, which compiles a page, does not count."""
    act()
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--labels", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=1_000)
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            _env_file=None,
            model_dir=Path(folder),
            label_studio_url="http://127.0.0.1:9",
            label_studio_api_key=SecretStr("x"),
        )
        client = create_app(settings).test_client()
        database = Database(settings.state_url)
        fill(database, options.tasks, options.labels, options.rounds)

        def count() -> None:
            with database.read() as session:
                session.scalar(select(func.count()).select_from(Task).where(Task.target.is_not(None)))

        bound = median_ms(count)
        table = Table(
            "page", "ms", "counts of the tasks", title=f"{options.tasks:,} tasks, {options.rounds:,} rounds"
        )
        for page in PAGES:
            path = page if page == "/" else f"/projects/1{page}"
            status = client.get(path).status_code
            taken = median_ms(lambda path=path: client.get(path).data)  # type: ignore[misc]
            table.add_row(
                f"{path}{'' if status == 200 else f' ({status})'}", f"{taken:.0f}", f"{taken / bound:.1f}"
            )
        console.print(table)
        console.print(f"Counting the labeled tasks once: {bound:.1f} ms")


if __name__ == "__main__":
    main()
