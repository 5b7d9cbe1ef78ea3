"""All that the loop asks of Label Studio's API.

A thin class over the official SDK, which turns a personal access token into short-lived access tokens and
renews them. Nothing is retried here: the loop waits and resumes. HTTP proxies are taken from the environment
(`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`).
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from label_studio_sdk.base_client import LabelStudioBase  # `LabelStudio` would load pandas and three clouds
from label_studio_sdk.core.api_error import ApiError

from backend.labelstudio.connection import (
    KEY_REMEDY,
    AccessDenied,
    AddressRefused,
    Connection,
    LabelStudioError,
    LabelStudioUnavailable,
    ProjectNotFound,
    RequestRefused,
    server_url,
)
from backend.labelstudio.records import Backend, Project, Task, Webhook

__all__ = [
    "AccessDenied",
    "AddressRefused",
    "Backend",
    "LabelStudio",
    "LabelStudioError",
    "LabelStudioUnavailable",
    "PredictionsRefused",
    "Project",
    "ProjectNotFound",
    "RequestRefused",
    "Task",
    "Webhook",
]

PAGE_SIZE = 500
"""Tasks a request: 0.3 s on two cores, and a bounded answer where every task carries brush masks."""
IDS_PAGE_SIZE = 2000
IDS_PER_QUERY = 250
"""Task ids that fit a URL of 4,000 characters."""
BATCHED_IMPORT = "fflag_fix_back_4620_memory_efficient_predictions_import_08012025_short"
"""A feature flag of Label Studio's, an environment variable there. Without it, an import of predictions updates all
tasks of the project: 17.7 s for 240 predictions among 100,000 tasks, while annotators wait; with it, 0.4 s."""
DELETE_TIMEOUT = 600
"""Seconds, for deleting a version's predictions."""
PROJECT_FIELDS = (
    # Those of `Project`. All of them include counters that go through every task of the project.
    "id,title,label_config,model_version,sampling,task_number,num_tasks_with_annotations,show_collab_predictions,"
    "maximum_annotations,created_at"
)
TASK_FIELDS = (
    # Also names the fields inside `annotations`: a key not listed here is pruned there too.
    "id,data,meta,is_labeled,annotations,result,was_cancelled,ground_truth,completed_by,created_at,updated_at"
)


class PredictionsRefused(LabelStudioError):
    """An import of predictions was refused.

    Attributes:
        task_ids: those of its tasks that do not exist in the project (any more).
    """

    def __init__(self, message: str, task_ids: frozenset[int]) -> None:
        super().__init__(message)
        self.task_ids = task_ids


class LabelStudio:
    """One Label Studio server, seen with one user's API key.

    Making the object sends nothing. Every method may raise `LabelStudioUnavailable`, `AccessDenied` and
    `LabelStudioError`; those that take a project, also `ProjectNotFound`.

    Args:
        url: of the server; may have a path (`https://example.com/label-studio`).
        api_key: a personal access token (or a legacy token, where the organization still allows those).
        timeout: seconds without an answer, for each request.

    Raises:
        LabelStudioError: this cannot be a server's URL.
        AccessDenied: the key is empty or malformed, or has expired.
    """

    def __init__(self, url: str, api_key: str, timeout: float = 60) -> None:
        self.url = server_url(url)
        api_key = api_key.strip()
        if not api_key:
            raise AccessDenied(f"There is no API key for {self.url}. {KEY_REMEDY}")
        if not re.fullmatch(r"[\w.=+/-]+", api_key, re.ASCII):
            raise AccessDenied(f"The API key for {self.url} has characters that no key has. {KEY_REMEDY}")
        try:
            self._sdk = LabelStudioBase(
                base_url=self.url + "/",  # with the slash, the SDK's token renewal keeps the path, too
                api_key=api_key,
                httpx_client=Connection(self.url, timeout),
            )
        except ApiError as error:
            raise AccessDenied(f"The API key for {self.url} has expired. {KEY_REMEDY}") from error

    def __repr__(self) -> str:
        return f"LabelStudio({self.url!r})"

    def authorization(self) -> str:
        """The value of an `Authorization` header that is valid now, for fetching media from this server."""
        return str(self._sdk._client_wrapper.get_headers()["Authorization"])

    def access_token(self) -> str:
        """An access token that is valid now (for some minutes). For a legacy key, the key itself."""
        return self.authorization().partition(" ")[2]

    # Projects

    def project(self, project_id: int) -> Project:
        """One project, with counters that are exact at this moment."""
        return Project.of(
            self._request("GET", f"api/projects/{project_id}/", params={"include": PROJECT_FIELDS})
        )

    def projects(self) -> list[Project]:
        """All projects that the key's user may see."""
        found: list[Project] = []
        page = 1
        while True:
            answer = self._request(
                "GET", "api/projects/", params={"include": PROJECT_FIELDS, "page": page, "page_size": 100}
            )
            found += map(Project.of, answer["results"])
            if not answer["next"]:
                return found
            page += 1

    def lacks_project(self, project_id: int) -> bool:
        """Whether Label Studio, asked again, has no such project: a proxy before one that is down says so, too."""
        try:
            return all(project.id != project_id for project in self.projects())
        except LabelStudioError:
            return False

    def set_model_version(self, project_id: int, version: str) -> None:
        """Let this version's predictions order the queue, from each annotator's next task on; "" for none.

        Raises:
            LabelStudioError: the project holds no prediction of this version.
        """
        self._change_project(project_id, model_version=version)

    def set_sampling(self, project_id: int, sampling: str) -> None:
        """Set how the queue is ordered, in Label Studio's words; see `Project.sampling`."""
        self._change_project(project_id, sampling=sampling)

    def _change_project(self, project_id: int, **changes: str) -> None:
        self._request("PATCH", f"api/projects/{project_id}/", params={"include": "id"}, json=changes)

    # Tasks

    def tasks(self, project_id: int, *, changed_since: datetime | None = None) -> Iterator[Task]:
        """All tasks in ascending order of id, or those changed at or after a time; page by page.

        No task that exists throughout is missed or repeated, whatever is added, labeled or deleted meanwhile.
        A task that changes after it was passed is not seen again: the time to continue from is `latest_change`,
        asked *before* this.
        """
        filters = [] if changed_since is None else [_filter("updated_at", "greater_or_equal", changed_since)]
        return map(Task.of, self._pages(project_id, filters, PAGE_SIZE, fields="all", include=TASK_FIELDS))

    def tasks_by_id(self, project_id: int, ids: Sequence[int]) -> Iterator[Task]:
        """Those of these tasks that exist, in no particular order."""
        return map(Task.of, self._selected(project_id, ids, fields="all", include=TASK_FIELDS))

    def task_ids(self, project_id: int) -> set[int]:
        """The ids of all tasks. At 0.3 s a thousand, for when `Project.task_count` is not as expected."""
        return {task["id"] for task in self._pages(project_id, [], IDS_PAGE_SIZE, include="id")}

    def latest_change(self, project_id: int) -> datetime | None:
        """The newest `updated_at` among the tasks, by Label Studio's clock; None without tasks."""
        query = json.dumps({"ordering": ["-tasks:updated_at"]})
        parameters = {"project": project_id, "include": "updated_at", "page_size": 1, "query": query}
        newest = self._request("GET", "api/tasks/", params=parameters)["tasks"]
        return datetime.fromisoformat(newest[0]["updated_at"]) if newest else None

    def _pages(
        self, project_id: int, filters: list[dict[str, Any]], page_size: int, **parameters: str
    ) -> Iterator[dict[str, Any]]:
        """Tasks in ascending order of id, each page beginning after the last id of the one before."""
        last_id = 0
        while True:
            items = [*filters, _filter("id", "greater", last_id)]
            query = {"filters": {"conjunction": "and", "items": items}, "ordering": ["tasks:id"]}
            answer = self._task_query(project_id, query, page_size, parameters)
            yield from answer["tasks"]
            # A short page alone would not mean the end: a server may cap the page size.
            if not answer["tasks"] or len(answer["tasks"]) >= answer["total"]:
                return
            last_id = answer["tasks"][-1]["id"]

    def _selected(self, project_id: int, ids: Sequence[int], **parameters: str) -> Iterator[dict[str, Any]]:
        for start in range(0, len(ids), IDS_PER_QUERY):
            some = list(ids[start : start + IDS_PER_QUERY])
            query = {"selectedItems": {"all": False, "included": some}}
            yield from self._task_query(project_id, query, len(some), parameters)["tasks"]

    def _task_query(
        self, project_id: int, query: dict[str, Any], page_size: int, parameters: Mapping[str, str]
    ) -> Any:
        return self._request(
            "GET",
            "api/tasks/",
            params={
                "project": project_id,
                "page_size": page_size,
                "resolve_uri": "false",
                "query": json.dumps(query, separators=(",", ":")),
                **parameters,
            },
        )

    # Predictions

    def import_predictions(self, project_id: int, predictions: Sequence[Mapping[str, Any]]) -> int:
        """Import predictions, each `{"task", "result", "score" in 0..1, "model_version"}`.

        Label Studio leaves out in silence what does not fit the labeling config: compare the answer with what
        was sent (with `BATCHED_IMPORT` it checks none). It adds to what is there, also to predictions of the same task
        and version.

        Returns:
            How many were created.

        Raises:
            PredictionsRefused: nothing was imported, usually because a task was deleted; see its `task_ids`.
        """
        if not predictions:
            return 0
        try:
            answer = self._request(
                "POST", f"api/projects/{project_id}/import/predictions", json=list(predictions)
            )
        except RequestRefused as error:
            sent = sorted({int(prediction["task"]) for prediction in predictions})
            missing = frozenset(sent) - {
                task["id"] for task in self._selected(project_id, sent, include="id")
            }
            if not missing:
                raise PredictionsRefused(str(error), missing) from error
            raise PredictionsRefused(
                f"Label Studio refused {len(predictions)} predictions for project {project_id}, because "
                f"{len(missing)} of their tasks do not exist (any more), task {min(missing)} for one. Import the "
                "others without those.",
                missing,
            ) from error
        return int(answer["created"])

    def model_versions(self, project_id: int) -> dict[str, int]:
        """How many predictions the project holds of each version."""
        return dict(self._request("GET", f"api/projects/{project_id}/model-versions/"))

    def predicted(self, project_id: int, version: str, ids: Sequence[int]) -> set[int]:
        """Those of these tasks that hold a prediction of this version."""
        found = self._selected(project_id, ids, fields="all", include="id,predictions,model_version")
        return {
            task["id"] for task in found if any(p["model_version"] == version for p in task["predictions"])
        }

    def delete_predictions(self, project_id: int, version: str) -> int:
        """Delete a version's predictions (7 ms each on SQLite).

        If it is the project's current version, that becomes None and the queue random.

        Returns:
            How many were deleted; 0 for a version that does not exist.
        """
        answer = self._request(
            "DELETE",
            f"api/projects/{project_id}/model-versions/",
            json={"model_version": version},
            request_options={"timeout_in_seconds": DELETE_TIMEOUT},
        )
        return int(answer["deleted_predictions"])

    # ML backends and webhooks

    def backends(self, project_id: int) -> list[Backend]:
        """The ML backends connected to a project. Label Studio calls `/health` and `/setup` of each first."""
        return [Backend.of(backend) for backend in self._sdk.ml.list(project=project_id)]

    def add_backend(
        self,
        project_id: int,
        url: str,
        title: str,
        basic_auth: tuple[str, str] | None = None,
        extra_params: Mapping[str, Any] | None = None,
    ) -> Backend:
        """Connect an ML backend, which must answer `/health` and `/setup` now.

        Where the project had no model version, it becomes the title. A webhook `url/webhook` for all events
        is created unless the project has one at that address.

        Raises:
            AddressRefused: as it says; nothing stays behind.
            RequestRefused: the backend did not answer as it should; the message says how.
        """
        before = {backend.id for backend in self.backends(project_id)}
        user, password = basic_auth or ("", "")
        authentication = {"auth_method": "BASIC_AUTH", "basic_auth_user": user, "basic_auth_pass": password}
        try:
            created = self._sdk.ml.create(
                project=project_id,
                url=url,
                title=title,
                extra_params=dict(extra_params or {}),
                **(authentication if basic_auth else {}),
            )
        except AddressRefused:
            # With one of its two protections off, Label Studio refuses yet stores a backend without webhook.
            for backend in self.backends(project_id):
                if backend.id not in before:
                    self.delete_backend(backend.id)
            raise
        return Backend.of(created)

    def check_address(self, url: str) -> None:
        """Ask whether an ML backend at this address would be called, and its webhook. Changes nothing.

        Raises:
            AddressRefused: it would not.
        """
        # Neither is complete, so that neither is made; but what an address lacks is told before anything else.
        backend, webhook = {"url": url}, {"url": f"{url}/webhook", "actions": ["NO_SUCH_ACTION"]}
        for path, incomplete in (("api/ml/", backend), ("api/webhooks/", webhook)):
            with suppress(RequestRefused):
                self._request("POST", path, json=incomplete)

    def set_extra_params(self, project_id: int, backend: Backend, extra_params: Mapping[str, Any]) -> None:
        """Change the extra params of an ML backend; Label Studio calls its `/setup` with them at once."""
        # Without project and address, Label Studio answers 500; what is not sent stays as it is.
        self._sdk.ml.update(
            backend.id,
            project=project_id,
            url=backend.url,
            title=backend.title,
            extra_params=dict(extra_params),
        )

    def delete_backend(self, backend_id: int) -> None:
        """Disconnect an ML backend. Its webhook stays."""
        self._sdk.ml.delete(backend_id)

    def webhooks(self, project_id: int) -> list[Webhook]:
        """The project's webhooks; none for a project that does not exist."""
        return [Webhook.of(webhook) for webhook in self._sdk.webhooks.list() if webhook.project == project_id]

    def create_webhook(
        self, project_id: int, url: str, headers: Mapping[str, str], actions: Sequence[str]
    ) -> Webhook:
        """Have these events of a project sent to a URL, with these headers.

        Raises:
            AddressRefused: Label Studio does not call this address.
        """
        created = self._sdk.webhooks.create(
            project=project_id,
            url=url,
            headers=dict(headers),
            actions=list(actions),
            send_for_all_actions=False,
            send_payload=True,
        )
        return Webhook.of(created)

    def delete_webhook(self, webhook_id: int) -> None:
        """Delete a webhook."""
        self._sdk.webhooks.delete(webhook_id)

    def _request(self, method: str, path: str, **options: Any) -> Any:
        """For what the SDK has no method, or one that loses something: its own authenticated request."""
        response = self._sdk._client_wrapper.httpx_client.request(path, method=method, **options)
        try:
            return response.json() if response.content else None
        except ValueError as error:
            raise LabelStudioUnavailable(
                f"The answer of Label Studio at {self.url} was cut short. Try again later."
            ) from error


def _filter(field: str, operator: str, value: int | datetime) -> dict[str, Any]:
    """A filter of Label Studio's data manager."""
    if isinstance(value, datetime):
        moment = value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {"filter": f"filter:tasks:{field}", "operator": operator, "type": "Datetime", "value": moment}
    return {"filter": f"filter:tasks:{field}", "operator": operator, "type": "Number", "value": value}
