"""All checks of a deployment, in the order in which they are carried out."""

from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from sqlalchemy import select

from backend.deployment import Deployment
from backend.doctor import surroundings
from backend.doctor.check import Check, Finding, broken, warning
from backend.doctor.label_studio import LabelStudioChecks
from backend.doctor.processes import ProcessChecks
from backend.doctor.projects import ProjectChecks
from backend.store.tables import Project

PROJECTS = "Projects"
PATIENCE = 5.0  # seconds that Label Studio may take for an answer


class Examination:
    """A look at everything, or of the projects at only one. Nothing is changed by it, not even prepared."""

    def __init__(self, only: int | None = None) -> None:
        self.only = only
        self.settings, self._problems = surroundings.read_settings()
        self.deployment = Deployment(self.settings, PATIENCE)

    @property
    def secrets(self) -> list[str]:
        """What must not be printed."""
        settings = self.settings
        given = [
            settings.label_studio_api_key.get_secret_value(),
            settings.basic_auth_pass.get_secret_value(),
            settings.viewer_pass.get_secret_value(),
        ]
        for url in (settings.backend_url, settings.database_url, settings.redis_url):
            password = _password(url)
            given += [password, unquote(password)]
        return [secret for secret in given if secret]

    def checks(self) -> Iterator[Check]:
        """One after the other. Each is to be carried out before the next is asked for, which may depend on it."""
        yield from surroundings.checks(self.settings, self._problems)
        processes = ProcessChecks(self.deployment)
        yield from processes.checks()
        label_studio = LabelStudioChecks(self.deployment)
        yield from label_studio.checks()
        projects = self._projects() if processes.has_state else []
        for project in projects:
            yield from ProjectChecks(self.deployment, project, label_studio.usable).checks()
        if not projects:
            yield Check(PROJECTS, "connected", self._no_project)

    def _projects(self) -> list[Project]:
        query = select(Project).order_by(Project.id)
        with self.deployment.database.read() as session:
            return list(session.scalars(query if self.only is None else query.where(Project.id == self.only)))

    def _no_project(self) -> Finding:
        if self.only is None:
            return warning("No project is connected yet.", "Run `active-learning connect --project NUMBER`.")
        return broken(
            f"Project {self.only} is not connected here.",
            f"Run `active-learning connect --project {self.only}`.",
        )


def _password(url: str) -> str:
    try:
        return urlsplit(url).password or ""
    except ValueError:  # no URL at all, as a check says
        return ""
