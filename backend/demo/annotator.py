"""An annotator who works through Label Studio's own API, as its user interface does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from backend.labelstudio.client import LabelStudio


@dataclass(frozen=True)
class AskedTask:
    """A task that Label Studio has asked an annotator about."""

    id: int
    data: dict[str, Any]
    predictions: list[dict[str, Any]]
    queue: str  # which of its queues Label Studio says that the task came from


class Annotator:
    """One user of Label Studio, at work on one project."""

    def __init__(self, url: str, api_key: str, project_id: int) -> None:
        self._label_studio = LabelStudio(url, api_key)
        self._project_id = project_id
        self._http = httpx.Client(base_url=url, timeout=60)

    def next_task(self) -> AskedTask | None:
        """What Label Studio asks next; None when it has nothing more for this user."""
        response = self._send("GET", f"/api/projects/{self._project_id}/next")
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        task = response.raise_for_status().json()
        return AskedTask(task["id"], task["data"], task.get("predictions", []), task.get("queue") or "")

    def choose(self, task_id: int, control: str, to_name: str, choices: list[str]) -> int:
        """Submit an annotation that chooses; returns its id."""
        value = {"from_name": control, "to_name": to_name, "type": "choices", "value": {"choices": choices}}
        return self.answer(task_id, [value])

    def answer(self, task_id: int, result: Sequence[Mapping[str, Any]]) -> int:
        """Submit an annotation with this result; returns its id."""
        return self._submit(task_id, {"result": list(result), "lead_time": 1.0})

    def skip(self, task_id: int) -> int:
        """Skip a task; returns the id of the annotation that says so."""
        return self._submit(task_id, {"result": [], "was_cancelled": True})

    def _submit(self, task_id: int, annotation: dict[str, Any]) -> int:
        response = self._send("POST", f"/api/tasks/{task_id}/annotations/", json=annotation)
        return int(response.raise_for_status().json()["id"])

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send, twice where the token, which lives some minutes, has expired on the way."""
        for _ in range(2):
            headers = {"Authorization": self._label_studio.authorization()}
            response = self._http.request(method, path, headers=headers, **options)
            if response.status_code != httpx.codes.UNAUTHORIZED:
                break
        return response
