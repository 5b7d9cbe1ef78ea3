"""What Label Studio holds of us for a project: an ML backend, and the webhook that brings its events."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from backend.deployment import Deployment
from backend.labelstudio.client import Backend, LabelStudioError, ProjectNotFound, Webhook
from backend.loop.events import SECRET_HEADER, WEBHOOK_ACTIONS
from backend.store.tables import Project

TITLE = "Active learning"


def register(deployment: Deployment, project: Project, extra_params: Mapping[str, Any]) -> None:
    """Register the backend in Label Studio; where that fails, our webhook does not stay behind either."""
    try:
        deployment.label_studio.add_backend(
            project.id, project.backend_url, TITLE, deployment.settings.basic_auth, extra_params
        )
    except LabelStudioError:
        with suppress(LabelStudioError):
            withdraw(deployment, project)
        raise


def ensure_webhook(deployment: Deployment, project: Project) -> bool:
    """Have exactly one webhook to us: with our secret, for just the events that matter."""
    ours = webhooks_at(deployment, project.id, project.backend_url)
    good = [webhook for webhook in ours if _is_good(webhook, project)]
    if not good:
        headers = {SECRET_HEADER: project.webhook_secret}
        deployment.label_studio.create_webhook(project.id, _webhook_url(project), headers, WEBHOOK_ACTIONS)
    for webhook in ours:
        if webhook not in good[:1]:
            deployment.label_studio.delete_webhook(webhook.id)
    return not good or len(ours) > 1


def has_webhook(deployment: Deployment, project: Project) -> bool:
    """Whether Label Studio tells us of labels."""
    webhooks = webhooks_at(deployment, project.id, project.backend_url)
    return any(_is_good(webhook, project) for webhook in webhooks)


def _is_good(webhook: Webhook, project: Project) -> bool:
    return (
        webhook.is_active
        and webhook.url == _webhook_url(project)
        and webhook.headers.get(SECRET_HEADER) == project.webhook_secret
        and not webhook.send_for_all_actions
        and sorted(webhook.actions) == WEBHOOK_ACTIONS
    )


def _webhook_url(project: Project) -> str:
    return project.backend_url + "/webhook"


def withdraw(deployment: Deployment, project: Project) -> None:
    """Remove our webhooks and backends from Label Studio."""
    label_studio = deployment.label_studio
    for webhook in webhooks_at(deployment, project.id, project.backend_url):
        with suppress(ProjectNotFound):  # someone was faster
            label_studio.delete_webhook(webhook.id)
    for backend in backends_at(deployment, project.id, project.backend_url):
        with suppress(ProjectNotFound):
            label_studio.delete_backend(backend.id)


def backends_at(deployment: Deployment, project_id: int, backend_url: str) -> list[Backend]:
    return [b for b in deployment.label_studio.backends(project_id) if same_address(b.url, backend_url)]


def webhooks_at(deployment: Deployment, project_id: int, backend_url: str) -> list[Webhook]:
    url = backend_url + "/webhook"
    return [w for w in deployment.label_studio.webhooks(project_id) if same_address(w.url, url)]


def same_address(one: str, other: str) -> bool:
    """Whether two URLs lead to the same place; a password in them and the scheme do not matter."""
    return _address(one) == _address(other)


def _address(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2].lower(), parts.path.rstrip("/")


def without_password(url: str) -> str:
    parts = urlsplit(url.rstrip("/"))
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
