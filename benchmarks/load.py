"""Whether webhooks are taken at 200 a second while rounds train, and none is lost.

    PYTHONPATH=. .venv/bin/python benchmarks/load.py [--rate 200] [--seconds 60] [--tasks 2000] [--labels 200]

Starts what docker-compose.yml runs (see stack.py) and has a worker train round after round, by Start training.
Meanwhile a process of its own sends webhooks as Label Studio does, each at its moment whether or not the earlier ones
were answered (see open_loop.py); a latency counts from that moment. As the bound, `/health` is asked at the same rate
before, while nothing trains. What annotators see under load is measured by annotators.py.

Ends with exit code 1 unless
- every webhook was acknowledged with a 2xx, 99 % of them within 100 ms;
- none was lost, and none recorded twice. A round deletes the events that it has covered, so a trigger in PostgreSQL
  keeps a copy of each that is committed; for every task, there must be as many as were sent about it;
- a round was under way during at least 80 % of the time.
"""

import argparse
import sys
import threading
import time
from collections import Counter
from http import HTTPStatus

import httpx
import numpy as np
from loop import draw, embedded_count, is_idle  # beside this file, as the next two
from open_loop import Answers, request_at_rate
from rich.console import Console
from rich.table import Table
from sqlalchemy import select, text
from stack import KEPT, keep, make_project, running_stack

from backend.loop.events import SECRET_HEADER
from backend.store.tables import Round, Task
from tests.end_to_end.running_loop import RunningLoop, wait_for

GOAL = 100.0  # milliseconds, of 99 % of the webhooks
TRAINING = 0.8  # the least share of the time during which a round is under way
ACTION = "ANNOTATION_UPDATED"
PATIENCE = 1_800.0  # seconds for the first rounds, and for embedding all

console = Console(highlight=False, width=120)


def main() -> None:
    """Run it and print what was seen."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=200, help="webhooks a second")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--tasks", type=int, default=2_000)
    parser.add_argument("--labels", type=int, default=200, help="of the tasks, before the first round")
    options = parser.parse_args()
    with running_stack() as (loop, images):
        digits = draw(images, options.tasks)
        project_id = make_project(loop, images, list(digits))
        annotator = loop.annotator(project_id)
        for task in list(loop.client.tasks(project_id))[: options.labels]:
            truth = digits[task.data["image"].rpartition("/")[2]]
            annotator.choose(task.id, "digit", "image", [truth])
        failures = measure(loop, project_id, options.rate, options.seconds)
    for failure in failures:
        console.print(f"FAILED: {failure}")
    if not failures:
        console.print("Every webhook was acknowledged in time, and none was lost.")
    sys.exit(bool(failures))


def measure(loop: RunningLoop, project_id: int, rate: float, seconds: float) -> list[str]:
    """Connect, ask for /health, then send webhooks while rounds run; returns what should not have been."""
    loop.processes.start()
    loop.connect(project_id)

    def settled() -> bool:
        tasks = loop.client.project(project_id).task_count
        return embedded_count(loop.deployment, project_id) == tasks and is_idle(loop.deployment, project_id)

    wait_for("all images are embedded", settled, PATIENCE)
    keep(loop.deployment.database, "events")
    with loop.deployment.database.read() as session:
        ids = session.scalars(select(Task.id).where(Task.project_id == project_id)).all()
    count = round(rate * seconds)
    idle = request_at_rate(f"{loop.processes.url}/health", rate, [None] * count, {})

    told = [ids[number % len(ids)] for number in range(count)]
    bodies = [
        {"action": ACTION, "project": {"id": project_id}, "task": {"id": task_id}, "annotation": {}}
        for task_id in told
    ]
    headers = {SECRET_HEADER: loop.project(project_id).webhook_secret}
    ended = threading.Event()
    training = threading.Thread(target=keep_training, args=(loop, project_id, ended))
    training.start()
    wait_for("a round", lambda: not is_idle(loop.deployment, project_id))
    try:
        answers = request_at_rate(f"{loop.processes.url}/webhook", rate, bodies, headers)
    finally:
        ended.set()
        training.join()
    return judge(loop, project_id, told, idle, answers)


def keep_training(loop: RunningLoop, project_id: int, ended: threading.Event) -> None:
    """Press Start training in Label Studio whenever no round is under way."""
    url = f"{loop.client.url}/api/ml/{loop.client.backends(project_id)[0].id}/train"
    while not ended.wait(0.1):
        if is_idle(loop.deployment, project_id):
            headers = {"Authorization": loop.client.authorization()}
            pressed = httpx.post(url, headers=headers, timeout=60)
            if pressed.status_code != HTTPStatus.UNAUTHORIZED:  # a token may expire on its way
                pressed.raise_for_status()


def judge(loop: RunningLoop, project_id: int, told: list[int], idle: Answers, answers: Answers) -> list[str]:
    """Print what was seen; returns what should not have been."""
    share, rounds = share_of_rounds(loop, project_id, answers.began, answers.ended)
    table = Table(
        title=f"{len(told)} requests each, {share:.0%} of the time while a round ran ({rounds} rounds)"
    )
    for heading in ("Request", "p50 ms", "p99 ms", "max ms", "2xx", "sender's share of a core"):
        table.add_column(heading, justify="left" if heading == "Request" else "right")
    for name, one in (("/health, idle", idle), ("/webhook, while rounds train", answers)):
        table.add_row(
            name,
            *(f"{np.percentile(one.milliseconds, rank):.1f}" for rank in (50, 99, 100)),
            str(sum(200 <= status < 300 for status in one.statuses)),
            f"{one.core:.0%}",
        )
    console.print(table)
    slowest, bound = (float(np.percentile(one.milliseconds, 99)) for one in (answers, idle))
    console.print(f"99th percentile: {slowest / bound:.1f} times that of /health (goal: {GOAL:.0f} ms)")
    failures = []
    if refused := [status for status in answers.statuses if not 200 <= status < 300]:
        failures.append(f"{len(refused)} were not acknowledged: {Counter(refused)}")
    if slowest >= GOAL:
        failures.append(f"the 99th percentile is {slowest:.0f} ms")
    recorded = recorded_about(loop, project_id)
    if lost := Counter(told) - recorded:
        failures.append(f"{lost.total()} were lost, about tasks {sorted(lost)[:5]}")
    if twice := recorded - Counter(told):
        failures.append(f"{twice.total()} were recorded that nobody sent, about tasks {sorted(twice)[:5]}")
    console.print(f"{recorded.total()} of {len(told)} in the store")
    if share < TRAINING:
        failures.append(f"rounds ran during {share:.0%} of the time only")
    return failures


def share_of_rounds(loop: RunningLoop, project_id: int, began: float, ended: float) -> tuple[float, int]:
    """During which share of a time a round was under way, and how many were."""
    with loop.deployment.database.read() as session:
        rounds = session.scalars(select(Round).where(Round.project_id == project_id)).all()
    seconds = []
    for one in rounds:
        until = one.finished_at.timestamp() if one.finished_at else time.time()
        seconds.append(min(until, ended) - max(one.started_at.timestamp(), began))
    under_way = [one for one in seconds if one > 0]
    return sum(under_way) / (ended - began), len(under_way)


def recorded_about(loop: RunningLoop, project_id: int) -> Counter[int]:
    """How many events of ours were committed about each task."""
    query = text(f"SELECT task_ids FROM {KEPT}events WHERE project_id = :project AND action = :action")
    with loop.deployment.database.read() as session:
        rows = session.scalars(query, {"project": project_id, "action": ACTION})
        return Counter(task_id for task_ids in rows for task_id in task_ids)


if __name__ == "__main__":
    main()
