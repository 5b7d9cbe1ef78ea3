"""Prometheus metrics of the server: what its processes have counted, and what the store knows.

The processes of one server add up what they count in files, whose folder `server.Server` names in the environment.
Without it, as in a server of one process, they count in memory.
"""

import os

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from backend.loop.metrics import PREFIX, LoopCollector
from backend.server import COUNTERS
from backend.store.database import Database

_counted = CollectorRegistry()

EVENTS = Counter(PREFIX + "events", "Events that Label Studio sent", ["action", "outcome"], registry=_counted)
PREDICTIONS = Counter(
    PREFIX + "predictions",
    "Predictions answered on request of Label Studio; empty ones say nothing about the image",
    ["content"],
    registry=_counted,
)
ERRORS = Counter(PREFIX + "errors", "Requests answered with an error", ["kind"], registry=_counted)
REQUESTS = Histogram(
    PREFIX + "request_duration_seconds",
    "Time until a request was answered",
    ["route", "status"],
    registry=_counted,
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)


def exposition(database: Database, accepted: str) -> tuple[bytes, str]:
    """All metrics in the format that suits best, and its content type.

    accepted: the request's Accept header.
    """
    registry = CollectorRegistry()
    registry.register(LoopCollector(database))
    if folder := os.environ.get(COUNTERS):
        MultiProcessCollector(registry, folder)
    else:
        registry.register(_counted)
    encode, content_type = choose_encoder(accepted)
    return encode(registry), content_type
