"""The labeled set as a table, for a report or a data sheet."""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import select

from backend.deployment import Deployment
from backend.labelstudio.labeling_config import read_labeling_config
from backend.labelstudio.media import without_secrets
from backend.learners.tasks import read_stored_target
from backend.store.tables import Project, Task
from backend.targets import votes_of

COLUMNS = ("task", "image", "control", "labels", "part", "agreement", "ground truth", "metadata")
CHUNK = 1_000  # tasks read at a time
# Where a cell begins and would be taken for a formula, also by a spreadsheet program that divides lines elsewhere than
# at commas and so does not see our quotes. Commas then divide nothing; else our quotes count.
FORMULA = re.compile(r"(^|[;|\t\r\n])(?=[ \"]*[=+\-@])")


def labeled_csv(deployment: Deployment, project: Project) -> Iterator[str]:
    """Line by line: a row for each labeled task and control.

    labels: the classes or names, each with the share of annotators who gave it where they differ. part: "audit" for a
    task that measures the model, else "training".
    """
    yield _line(COLUMNS)
    if not project.label_config:
        return
    controls = read_labeling_config(project.label_config).controls
    last = 0
    while rows := _rows(deployment, project.id, last):
        for task in rows:
            image = "data:" if task.source.startswith("data:") else without_secrets(task.source)
            for control in controls:
                if (stored := (task.target or {}).get(control.name)) is None:
                    continue
                votes = votes_of(read_stored_target(control, stored))
                labels = "; ".join(
                    name if share == 1 else f"{name} ({share:.0%})" for name, share in votes.items()
                )
                part = "audit" if task.audit else "training"
                metadata = json.dumps(task.groups, ensure_ascii=False) if task.groups else ""
                truth = "yes" if task.ground_truth else ""
                yield _line(
                    (
                        task.id,
                        image,
                        control.name,
                        labels,
                        part,
                        f"{task.agreement:.2f}",
                        truth,
                        metadata,
                    )
                )
        last = rows[-1].id


def _rows(deployment: Deployment, project_id: int, after: int) -> Sequence[Task]:
    query = (
        select(Task)
        .where(Task.project_id == project_id, Task.target.is_not(None), Task.id > after)
        .order_by(Task.id)
        .limit(CHUNK)
    )
    with deployment.database.read() as session:
        return session.scalars(query).all()


def _line(values: Sequence[Any]) -> str:
    written = io.StringIO()
    csv.writer(written).writerow([_harmless(str(value)) for value in values])
    return written.getvalue()


def _harmless(text: str) -> str:
    """What no spreadsheet program takes for a formula, wherever it divides the text."""
    return FORMULA.sub(r"\1'", text)
