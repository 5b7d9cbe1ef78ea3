"""gunicorn's own lines as JSON, like ours."""

from gunicorn.glogging import Logger

from backend.logs import JsonFormatter


class JsonLogger(Logger):  # type: ignore[misc]
    """Logs to the same place as gunicorn's logger."""

    def setup(self, cfg: object) -> None:
        """Called by gunicorn when it starts."""
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(JsonFormatter())
