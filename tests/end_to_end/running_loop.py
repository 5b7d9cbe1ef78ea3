"""A running backend, seen from a test: its processes, its store, and what Label Studio serves."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
from pydantic import SecretStr
from sqlalchemy import select

from backend.demo.annotator import Annotator
from backend.demo.backend import BackendProcesses
from backend.demo.label_studio import LabelStudioServer, free_port
from backend.deployment import Deployment
from backend.labelstudio.client import LabelStudio
from backend.loop.connection import connect
from backend.loop.events import pending_events
from backend.loop.jobs import Jobs
from backend.loop.publishing import unlabeled_now
from backend.loop.rounds import latest_round, served_round
from backend.settings import Settings
from backend.store.tables import Project, QueueEntry, Round, RoundState, Task
from tests.stores import new_store

T = TypeVar("T")
PATIENCE = 240.0  # seconds; generous, since a test's machine may be busy


def wait_for(what: str, look: Callable[[], T | None], timeout: float = PATIENCE) -> T:
    """Look until there is something; fails with what was waited for."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if (found := look()) is not None and found is not False:
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {timeout:.0f} s in vain: {what}")


def digits_config(classes: Sequence[str] = tuple("0123456789"), **settings: object) -> str:
    """A labeling config of digits; `settings` become `model_*` attributes."""
    attributes = "".join(f' model_{name}="{value}"' for name, value in settings.items())
    choices = "".join(f'<Choice value="{name}"/>' for name in classes)
    return (
        f'<View><Image name="image" value="$image" maxWidth="300px"/><Choices name="digit" toName="image"{attributes}>'
        f"{choices}</Choices></View>"
    )


@dataclass
class RunningLoop:
    """A server, a worker, and the Label Studio that they serve."""

    label_studio: LabelStudioServer
    deployment: Deployment
    processes: BackendProcesses

    @classmethod
    def on(cls, label_studio: LabelStudioServer, folder: Path, **environment: str) -> "RunningLoop":
        """A backend, not started yet, for a Label Studio; with a store of its own, unless it is told of one."""
        port = free_port()
        variables = {
            "LABEL_STUDIO_URL": label_studio.url,
            "LABEL_STUDIO_API_KEY": label_studio.api_key,
            "BACKEND_URL": f"http://127.0.0.1:{port}",
            "MODEL_DIR": str(folder),
            "PORT": str(port),
        }
        variables |= ({} if "DATABASE_URL" in environment else new_store()) | environment
        settings = Settings(
            _env_file=None,  # type: ignore[call-arg]
            label_studio_url=variables["LABEL_STUDIO_URL"],
            label_studio_api_key=SecretStr(variables["LABEL_STUDIO_API_KEY"]),
            backend_url=variables["BACKEND_URL"],
            model_dir=folder,
            port=port,
            database_url=variables["DATABASE_URL"],
            redis_url=variables["REDIS_URL"],
            storage_url=variables.get("STORAGE_URL", ""),
            basic_auth_user=variables.get("BASIC_AUTH_USER", ""),
            basic_auth_pass=SecretStr(variables.get("BASIC_AUTH_PASS", "")),
        )
        deployment = Deployment(settings)
        deployment.prepare()
        return cls(label_studio, deployment, BackendProcesses(variables))

    @property
    def client(self) -> LabelStudio:
        """Label Studio's API."""
        return self.deployment.label_studio

    def connect(self, project_id: int) -> bool:
        """What `active-learning connect` does."""
        changed = connect(self.deployment, project_id, backend_url=self.processes.url)
        if changed:
            Jobs(self.deployment).nudge(project_id)
        return changed

    def annotator(self, project_id: int, api_key: str | None = None) -> Annotator:
        """Someone at work."""
        return Annotator(self.label_studio.url, api_key or self.label_studio.api_key, project_id)

    def project(self, project_id: int) -> Project:
        """The project's row."""
        with self.deployment.database.read() as session:
            return session.get_one(Project, project_id)

    def task(self, project_id: int, task_id: int) -> Task | None:
        """A task's row."""
        with self.deployment.database.read() as session:
            return session.get(Task, (project_id, task_id))

    def latest(self, project_id: int) -> Round | None:
        """The newest round."""
        return latest_round(self.deployment, project_id)

    def served(self, project_id: int) -> Round:
        """The round whose queue is served."""
        served = served_round(self.deployment, project_id)
        assert served is not None
        return served

    def wait_for_round(self, project_id: int, number: int) -> Round:
        """Wait until the newest round is that one, or a later one, and is done; another may be due."""

        def look() -> Round | None:
            latest = self.latest(project_id)
            if latest is None or latest.number < number or latest.state == RoundState.RUNNING:
                return None
            assert latest.state != RoundState.FAILED, f"round {latest.number} failed: {latest.error}"
            return latest if latest.state == RoundState.DONE else None

        try:
            return wait_for(f"round {number} of project {project_id}", look)
        except AssertionError as error:
            raise AssertionError(
                f"{error}\nlatest: {vars(self.latest(project_id) or object)}\n"
                f"worker:\n{self.processes.log_tail('worker', 40)}"
            ) from error

    def queue(self, project_id: int) -> list[int]:
        """Tasks in the published window that nobody has labeled, in order."""
        with self.deployment.database.read() as session:
            return list(
                session.scalars(
                    select(QueueEntry.task_id)
                    .join(Task, (Task.id == QueueEntry.task_id) & unlabeled_now(project_id))
                    .where(QueueEntry.round_id == self.served(project_id).id, QueueEntry.published)
                    .order_by(QueueEntry.rank)
                )
            )

    def without_prediction(self, project_id: int) -> int:
        """An unlabeled task of which Label Studio holds no prediction, of any version."""
        with self.deployment.database.read() as session:
            ids = session.scalars(select(Task.id).where(unlabeled_now(project_id)).order_by(Task.id)).all()
        versions = self.client.model_versions(project_id)
        predicted = {
            found for version in versions for found in self.client.predicted(project_id, version, ids)
        }
        return next(task_id for task_id in ids if task_id not in predicted)

    def predicted_choice(self, project_id: int, task_id: int) -> list[str]:
        """What the served prediction of a task chooses, as Label Studio stores it."""
        asked = httpx.get(
            f"{self.label_studio.url}/api/predictions/",
            params={"task": task_id, "project": project_id},
            headers={"Authorization": self.client.authorization()},
            timeout=30,
        )
        served = self.served(project_id).version
        results = [p["result"] for p in asked.raise_for_status().json() if p["model_version"] == served]
        return [name for result in results for region in result for name in region["value"]["choices"]]

    def pending(self, project_id: int) -> list[str]:
        """Actions of the events that no sync has covered."""
        return [event.action for event in pending_events(self.deployment.database, self.project(project_id))]

    def targets(self, project_id: int) -> dict[int, dict[str, float]]:
        """What the store knows of the labels: votes by task."""
        with self.deployment.database.read() as session:
            rows = session.execute(
                select(Task.id, Task.target).where(Task.project_id == project_id, Task.target.is_not(None))
            )
            return {row.id: target["votes"] for row in rows for target in row.target.values()}


def learned(done: Round) -> Mapping[str, Any]:
    """What a round notes of the only control."""
    (facts,) = done.facts["controls"].values()
    return facts
