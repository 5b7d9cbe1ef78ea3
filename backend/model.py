"""The backend as a `LabelStudioMLBase` subclass, for people who run the `label-studio-ml` server.

`label-studio-ml create my_backend --script backend/model.py:ActiveLearning` makes a folder that
`label-studio-ml start my_backend` serves, or gunicorn through its `_wsgi.py`; `active-learning worker` runs the
rounds, as always. That server hands on fewer of Label Studio's events than ours (no deletions, no new tasks);
the worker finds such changes within a minute.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from flask import has_request_context, request
from label_studio_ml import api as server
from label_studio_ml.model import LabelStudioMLBase

from backend.deployment import Deployment
from backend.loop import events
from backend.loop.jobs import Jobs
from backend.loop.prediction import NO_MODEL_VERSION, answer
from backend.loop.rounds import served_round
from backend.protocol import SetupRequest, take_setup
from backend.settings import Settings


@cache
def _jobs() -> Jobs:
    """Made once in a process; that server constructs the model anew for every request."""
    deployment = Deployment(Settings())
    deployment.prepare()
    return Jobs(deployment)


class ActiveLearning(LabelStudioMLBase):  # type: ignore[misc]
    """Serves predictions, takes events; all state is in the deployment's store."""

    def setup(self) -> None:
        """Called by that server on every request: keep the version that it answers with up to date."""
        if has_request_context() and request.path == "/setup":
            body = SetupRequest.model_validate(request.get_json())
            version = take_setup(_jobs(), body, request.url_root)
        else:
            served = served_round(_jobs().deployment, int(self.project_id)) if self.project_id else None
            version = served.version if served else NO_MODEL_VERSION
        self.set("model_version", version)

    def set_extra_params(self, extra_params: Any) -> None:
        """Already taken from the request by `setup`; that server's cache holds text only."""

    def predict(
        self, tasks: list[dict[str, Any]], context: Mapping[str, Any] | None = None, **_: Any
    ) -> list[dict[str, Any]]:
        """Exactly one prediction for each task."""
        return answer(_jobs().deployment, int(self.project_id), self.label_config, tasks)

    def fit(self, event: str, data: Mapping[str, Any], **_: Any) -> dict[str, str]:
        """Commit the event and return; a worker does the work."""
        project_id = int(self.project_id)
        # That server has checked user and password, if it was given any; Start training comes without secret.
        trusted = event == events.START_TRAINING or server.BASIC_AUTH is not None
        secret = None if trusted else request.headers.get(events.SECRET_HEADER, "")
        outcome = _jobs().take_event(event, project_id, data, secret)
        if outcome == events.Outcome.REFUSED:
            return {"status": "refused: the webhook lacks the secret of its project"}
        return {"status": outcome}
