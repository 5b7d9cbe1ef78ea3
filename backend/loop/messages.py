"""Messages to the workers as JSON. Whoever can write to the queue of jobs gets nothing run that is not ours.

The library's own form is Python's pickle, which runs what the writer wants.
"""

import json
from datetime import datetime
from typing import Any

from huey.registry import Message
from huey.serializer import Serializer

SENT = ("id", "name", "eta", "retries", "retry_delay", "priority", "args", "kwargs")
NOT_SENT = dict.fromkeys(set(Message._fields) - set(SENT))


class JsonMessages(Serializer):  # type: ignore[misc]
    """Reads and writes a job's name, arguments and time; the jobs here have nothing else."""

    def _serialize(self, data: Message) -> bytes:
        fields = {name: getattr(data, name) for name in SENT}
        fields["eta"] = data.eta.isoformat() if data.eta else None
        return json.dumps(fields).encode()

    def _deserialize(self, data: bytes) -> Message:
        """Raises ValueError for what is no such message."""
        fields: dict[str, Any] = json.loads(data)
        if not isinstance(fields, dict) or set(fields) != set(SENT):
            raise ValueError("a message that is no job of ours")
        fields["eta"] = datetime.fromisoformat(fields["eta"]) if fields["eta"] else None
        fields["args"] = tuple(fields["args"])
        return Message(**fields, **NOT_SENT)
