"""What Label Studio's API tells, as typed records. `of` reads the API's own form."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self


@dataclass(frozen=True)
class Project:
    """A project's settings and counters.

    Attributes:
        model_version: the version whose predictions order the queue; None when there is none.
        sampling: "Sequential sampling", "Uniform sampling" or "Uncertainty sampling".
        annotated_count: tasks with at least one annotation that was not skipped.
        show_predictions: whether annotators see predictions in the labeling interface.
        annotations_per_task: annotations until a task counts as labeled.
    """

    id: int
    title: str
    label_config: str
    model_version: str | None
    sampling: str
    task_count: int
    annotated_count: int
    show_predictions: bool
    annotations_per_task: int
    created_at: datetime

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        return cls(
            id=answer["id"],
            title=answer["title"],
            label_config=answer["label_config"],
            model_version=answer["model_version"] or None,
            sampling=answer["sampling"],
            task_count=answer["task_number"],
            annotated_count=answer["num_tasks_with_annotations"],
            show_predictions=answer["show_collab_predictions"],
            annotations_per_task=answer["maximum_annotations"],
            created_at=datetime.fromisoformat(answer["created_at"]),
        )


@dataclass(frozen=True)
class Task:
    """A task with its complete annotations.

    Attributes:
        data: as stored; cloud addresses (`s3://…`) are not replaced by presigned ones.
        annotations: dicts with id, result, was_cancelled (a skip), ground_truth, completed_by (a user's id),
            created_at and updated_at.
        is_labeled: has as many annotations as the project wants.
        updated_at: moves when the task's data, meta or annotations change in any way, skips and conversions
            to draft included; not when predictions are imported.
    """

    id: int
    data: dict[str, Any]
    meta: dict[str, Any]
    annotations: list[dict[str, Any]]
    is_labeled: bool
    updated_at: datetime

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        return cls(
            id=answer["id"],
            data=answer["data"],
            meta=answer["meta"] or {},
            annotations=answer["annotations"],
            is_labeled=answer["is_labeled"],
            updated_at=datetime.fromisoformat(answer["updated_at"]),
        )


@dataclass(frozen=True)
class Backend:
    """An ML backend connected to a project. Its URL may hold a password, and so stays out of its repr.

    Attributes:
        state: Label Studio's two letters: CO connected, ER error, DI disconnected, TR training, PR predicting.
    """

    id: int
    url: str = field(repr=False)
    title: str
    state: str
    error_message: str | None
    extra_params: dict[str, Any]

    @classmethod
    def of(cls, answer: Any) -> Self:
        return cls(
            id=answer.id,
            url=answer.url,
            title=answer.title or "",
            state=answer.state or "",
            error_message=answer.error_message or None,
            extra_params=answer.extra_params if isinstance(answer.extra_params, dict) else {},
        )


@dataclass(frozen=True)
class Webhook:
    """A webhook of a project. Its URL and headers may hold secrets, and so stay out of its repr."""

    id: int
    url: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    actions: list[str]
    send_for_all_actions: bool
    is_active: bool

    @classmethod
    def of(cls, answer: Any) -> Self:
        return cls(
            id=answer.id,
            url=answer.url,
            headers=dict(answer.headers or {}),
            actions=list(answer.actions or []),
            send_for_all_actions=answer.send_for_all_actions,
            is_active=answer.is_active,
        )
