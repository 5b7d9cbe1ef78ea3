"""The base class: made anew for every request, what it keeps is text by project and name."""

from typing import Any

_kept: dict[tuple[str, str], str] = {}


class LabelStudioMLBase:
    """A model as that server uses it."""

    def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
        self.project_id = project_id or ""
        if label_config is not None:
            self.set("label_config", label_config)
        self.setup()

    def setup(self) -> None:
        """Called at the end of the constructor."""

    def set_extra_params(self, extra_params: Any) -> None:
        """Called by a request to set up that has some."""
        self.set("extra_params", extra_params)

    def get(self, key: str) -> str | None:
        """What was set, by any instance for this project."""
        return _kept.get((self.project_id, key))

    def set(self, key: str, value: str) -> None:
        """Keep it for the project."""
        if not isinstance(value, str):
            raise TypeError(f"that server's cache takes text alone, not {value!r}")
        _kept[self.project_id, key] = value

    @property
    def label_config(self) -> str | None:
        """The last one that a request brought."""
        return self.get("label_config")
