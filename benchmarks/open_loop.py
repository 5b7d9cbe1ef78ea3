"""Requests at a given rate, each at its moment whether or not the earlier ones were answered.

Who waits for an answer before the next request sends fewer just while the server stalls, and hides the stall.
"""

import asyncio
import gc
import json
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

NO_ANSWER = 0  # in place of a status
TIMEOUT = 30.0  # seconds


@dataclass(frozen=True)
class Answers:
    """What came back.

    began, ended: Unix time of the first due moment, and of the last answer.
    milliseconds: of each request, from the moment when it was due to its answer.
    statuses: HTTP status of each, in the same order; NO_ANSWER where the connection broke or the time was over.
    core: share of one core that sending took.
    """

    began: float
    ended: float
    milliseconds: list[float]
    statuses: list[int]
    core: float


def request_at_rate(
    url: str, rate: float, bodies: Sequence[Mapping[str, Any] | None], headers: Mapping[str, str]
) -> Answers:
    """Request `url` once for each body, `rate` times a second; POST, or GET where the body is None.

    It is done in a process of its own, each over a connection of its own, as Label Studio sends webhooks. HTTP is
    written here, since a library's client takes as much of a core as the server that is measured.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_run, url, rate, bodies, headers).result()


def _run(
    url: str, rate: float, bodies: Sequence[Mapping[str, Any] | None], headers: Mapping[str, str]
) -> Answers:
    return asyncio.run(_send(url, rate, bodies, headers))


async def _send(
    url: str, rate: float, bodies: Sequence[Mapping[str, Any] | None], headers: Mapping[str, str]
) -> Answers:
    requests = [_written(url, body, headers) for body in bodies]
    milliseconds, statuses = [0.0] * len(requests), [NO_ANSWER] * len(requests)
    gc.disable()  # a pause of the sender would count as one of the server
    began_at, computed, start = time.time(), time.process_time(), time.perf_counter()

    async def one(number: int, due: float) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                statuses[number] = await _status(url, requests[number])
        except (OSError, EOFError, TimeoutError):
            pass
        milliseconds[number] = 1_000 * (time.perf_counter() - due)

    async with asyncio.TaskGroup() as sending:
        for number in range(len(requests)):
            due = start + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            sending.create_task(one(number, due))
    core = (time.process_time() - computed) / (time.perf_counter() - start)
    return Answers(began_at, time.time(), milliseconds, statuses, core)


def _written(url: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> bytes:
    """An HTTP request, after whose answer the connection is closed."""
    at = urlsplit(url)
    content = b"" if body is None else json.dumps(body).encode()
    all_headers = {
        "Host": at.netloc,
        "Connection": "close",
        "Content-Type": "application/json",
        "Content-Length": str(len(content)),
        **headers,
    }
    lines = [f"{'GET' if body is None else 'POST'} {at.path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in all_headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


async def _status(url: str, request: bytes) -> int:
    at = urlsplit(url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    try:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
        return int(head.split(b" ", 2)[1])
    finally:
        writer.close()
