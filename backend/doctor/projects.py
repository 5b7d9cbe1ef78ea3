"""What concerns one connected project: what Label Studio holds of us for it, its settings, its images."""

import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from sqlalchemy import func, select

from backend.deployment import Deployment
from backend.doctor.check import Check, Finding, Verdict, broken, fine, told, warning
from backend.doctor.surroundings import weights
from backend.labelstudio.client import LabelStudioError, ProjectNotFound
from backend.labelstudio.client import Project as RemoteProject
from backend.labelstudio.labeling_config import UnsupportedConfig, read_labeling_config
from backend.labelstudio.media import MediaError, MediaFetcher, MediaUnavailable
from backend.loop.connection import UNCERTAINTY_SAMPLING
from backend.loop.events import SECRET_HEADER
from backend.loop.registration import backends_at, has_webhook, without_password
from backend.loop.rounds import latest_round, served_round
from backend.settings import InvalidSettings, LoopSettings
from backend.store.tables import Project, ProjectState, RoundState, Task

SECONDS = 5.0  # for an answer
MOST_HOSTS = 3  # whose images are tried, of one project
NOTHING_LOST = "No label is lost meanwhile."


class ProjectChecks:
    """Whether the loop of a project can work.

    usable: Label Studio answers and accepts the key; without, only what is known here is looked at.
    """

    def __init__(self, deployment: Deployment, project: Project, usable: bool) -> None:
        self.deployment, self.project, self.usable = deployment, project, usable
        self.area = f"Project {project.id} {project.title}".rstrip()
        self.connect = f"`active-learning connect --project {project.id}`"
        self._remote: RemoteProject | None = None

    def checks(self) -> Iterator[Check]:
        """In the order in which they are worth reading."""
        yield Check(self.area, "loop", self.loop)
        if self.project.state != ProjectState.ACTIVE:
            return
        yield Check(self.area, "in Label Studio", self.in_label_studio)
        if self._remote is not None:
            yield Check(self.area, "labeling config", self.labeling_config)
            yield Check(self.area, "model", self.model)
            yield Check(self.area, "webhook", self.webhook)
            yield Check(self.area, "task sampling", self.sampling)
            yield Check(self.area, "model version", self.model_version)
            yield Check(self.area, "images", self.images)
        yield Check(self.area, "broken images", self.broken_images)

    def loop(self) -> Finding:
        """Whether the loop goes on, as far as the store knows."""
        project, latest = self.project, latest_round(self.deployment, self.project.id)
        match project.state:
            case ProjectState.DISCONNECTED:
                return fine("It is disconnected.")
            case ProjectState.GONE:
                return broken(
                    f"It has stopped. {project.problem or ''}".strip(), f"{self.connect} starts it again."
                )
            case ProjectState.CONNECTING if project.problem:
                return broken(
                    f"It is not connected yet. {project.problem}", "A worker tries again every few seconds."
                )
            case ProjectState.CONNECTING | ProjectState.DISCONNECTING:
                return warning(f"It is {project.state}.", "A worker finishes it.")
        if latest is not None and latest.state in (RoundState.FAILED, RoundState.WAITING):
            return broken(
                f"Round {latest.number} {latest.state} at the step {latest.step}: {latest.error}",
                f"Mend what it says. {NOTHING_LOST} The old queue stays.",
            )
        if project.problem:
            return broken(project.problem, f"Mend what it says. {NOTHING_LOST}")
        if project.paused:
            return warning("It is paused: no round starts by itself.", "Resume it in the dashboard.")
        if latest is None:
            return warning("The first round has not begun.", "A worker begins it.")
        return fine(f"Round {latest.number} is {latest.state}.")

    def in_label_studio(self) -> Finding:
        """Whether it is there, and the one that was connected."""
        if not self.usable:
            return warning("It was not looked at, since Label Studio cannot be asked.", "Mend that first.")
        try:
            remote = self.deployment.label_studio.project(self.project.id)
        except ProjectNotFound as error:
            return broken(
                str(error), f"`active-learning disconnect --project {self.project.id}`, if it was deleted."
            )
        except LabelStudioError as error:
            return told(error)
        if int(remote.created_at.timestamp()) != self.project.created:
            return broken(
                "It is another project than the one that was connected under this number.",
                f"Check LABEL_STUDIO_URL. If it is right: {self.connect}.",
            )
        self._remote = remote
        return fine(f"It has {remote.task_count} tasks, {remote.annotated_count} of them annotated.")

    def labeling_config(self) -> Finding:
        """Whether it asks for what can be learned, with settings that can be used."""
        try:
            config = read_labeling_config(self._found.label_config)
            settings = LoopSettings.resolve(config.settings, self.project.extra_params)
        except UnsupportedConfig as error:
            return told(error)
        except InvalidSettings as error:
            return broken(
                f"In the labeling config, the extra params or the environment, {error}",
                f"Correct it in the project's Settings. {NOTHING_LOST} The old queue stays.",
            )
        embedding = weights(settings.embedding)
        if embedding.verdict == Verdict.BROKEN:
            return embedding
        learned = ", ".join(f"{control.name} ({control.task})" for control in config.controls)
        if config.left_out:
            return warning(f"{learned} can be learned, but not all of it.", " ".join(config.left_out))
        return fine(f"{learned} can be learned.")

    def model(self) -> Finding:
        """Whether our backend is registered, and Label Studio reaches it: asked for it, it calls /health and /setup."""
        try:
            registered = backends_at(self.deployment, self.project.id, self.project.backend_url)
        except LabelStudioError as error:
            return told(error)
        address = without_password(self.project.backend_url)
        if not registered:
            return broken(
                f"No model at {address} is connected in Label Studio.", f"{self.connect} connects it."
            )
        if registered[0].state == "DI":
            return broken(
                f"Label Studio gets no answer at {address}/health.",
                "Start `active-learning serve`, and let Label Studio's machine reach that address. "
                f"{NOTHING_LOST}",
            )
        if reason := registered[0].error_message:
            return broken(
                f"Label Studio cannot use it: {reason}", "Mend what it says; Settings → Model shows it, too."
            )
        return fine(f"Label Studio just called it at {address}.")

    def webhook(self) -> Finding:
        """Whether Label Studio tells us of labels: the webhook is as we made it, and our server takes its calls."""
        try:
            if not has_webhook(self.deployment, self.project):
                return broken(
                    "The webhook that tells of new labels was removed or changed in Label Studio, so they are only "
                    "found within a minute.",
                    f"{self.connect} puts it back.",
                )
            self.deployment.label_studio.check_address(self.project.backend_url)
        except LabelStudioError as error:
            return told(error)
        try:
            answer = httpx.post(
                f"{without_password(self.project.backend_url)}/webhook",
                json={"action": "DOCTOR", "project": {"id": self.project.id}},  # an unknown action is ignored
                headers={SECRET_HEADER: self.project.webhook_secret},
                timeout=SECONDS,
            )
        except httpx.HTTPError as error:
            return warning(
                f"It is there, but from here our server cannot be called ({error}).", "See the server."
            )
        if answer.status_code == 401:
            return broken(
                "The server at its address does not know its secret: it works with another database.",
                "Give server, worker and this command the same MODEL_DIR or DATABASE_URL.",
            )
        if not answer.is_success:
            return broken(
                f"Our server answers it with HTTP {answer.status_code}.", "Look at the server's log."
            )
        return fine("It is there, and our server takes its calls.")

    def sampling(self) -> Finding:
        """Whether the queue follows the predictions' scores."""
        if self._found.sampling == UNCERTAINTY_SAMPLING:
            return fine("It is uncertainty sampling.")
        return broken(
            f"The queue does not follow the ranking: the task sampling is {self._found.sampling!r}.",
            f"{self.connect} sets it to uncertainty sampling.",
        )

    def model_version(self) -> Finding:
        """Whether the queue follows the predictions of the served round."""
        served = served_round(self.deployment, self.project.id)
        if served is None or not served.facts.get("queue"):
            return fine("No queue has been published yet.")
        if self._found.model_version == served.version:
            return fine(f"{served.version} is served.")
        return broken(
            f"The queue does not follow the ranking: the project's model version is {self._found.model_version!r}, "
            f"not {served.version!r}.",
            "Press Start training in Label Studio to publish anew.",
        )

    def images(self) -> Finding:
        """Whether one image of each host can be fetched, anew and not from the cache."""
        samples = self._one_task_of_each_host()
        if not samples:
            return fine("No task is known yet.")
        settings = self.deployment.settings
        with (
            tempfile.TemporaryDirectory() as folder,
            closing(
                MediaFetcher(
                    settings.label_studio_url,
                    self.deployment.label_studio.access_token,
                    Path(folder),
                    allowed_hosts=settings.allowed_media_hosts,
                    timeout=SECONDS,
                )
            ) as media,
        ):
            for task in samples:
                try:
                    media.image(task.source, task.id)
                except (MediaError, MediaUnavailable) as error:
                    return told(error)
        return fine(f"One of {'each host' if len(samples) > 1 else 'them'} was fetched.")

    def broken_images(self) -> Finding:
        """Whether images were left out."""
        broken_ones = (Task.project_id == self.project.id) & Task.broken.is_not(None)
        with self.deployment.database.read() as session:
            count = session.scalar(select(func.count()).where(broken_ones)) or 0
            first = session.scalar(select(Task).where(broken_ones).order_by(Task.id).limit(1))
        if first is None:
            return fine("None.")
        return warning(
            f"{count} left out; task #{first.id}: {first.broken}",
            "Mend them, then press Start training. The other tasks go on.",
        )

    def _one_task_of_each_host(self) -> list[Task]:
        """Of each host a task whose image was not found broken, if it has one."""
        query = select(Task).where(Task.project_id == self.project.id, Task.source != "")
        found: dict[str, Task] = {}
        with self.deployment.database.read() as session:
            for task in session.scalars(
                query.order_by(Task.broken.is_not(None)).execution_options(yield_per=1000)
            ):
                found.setdefault(urlsplit(task.source).netloc, task)
                if len(found) == MOST_HOSTS:
                    break
        return list(found.values())

    @property
    def _found(self) -> RemoteProject:
        assert self._remote is not None
        return self._remote
