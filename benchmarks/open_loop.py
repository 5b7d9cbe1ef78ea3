"""Requests at a given rate, each at its moment whether or not the earlier ones were answered.

Who waits for an answer before the next request sends fewer just while the server stalls, and hides the stall.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx

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

    It is done in a process of its own, over connections that are kept.
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
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    async with httpx.AsyncClient(headers=headers, timeout=TIMEOUT, limits=limits, trust_env=False) as client:
        began_at, computed, start = time.time(), time.process_time(), time.perf_counter()

        async def one(body: Mapping[str, Any] | None, due: float) -> tuple[float, int]:
            try:
                sent = client.get(url) if body is None else client.post(url, json=body)
                status = (await sent).status_code
            except httpx.HTTPError:
                status = NO_ANSWER
            return 1_000 * (time.perf_counter() - due), status

        sending = []
        for number, body in enumerate(bodies):
            due = start + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            sending.append(asyncio.create_task(one(body, due)))
        milliseconds, statuses = zip(*await asyncio.gather(*sending), strict=True)
        core = (time.process_time() - computed) / (time.perf_counter() - start)
        return Answers(began_at, time.time(), list(milliseconds), list(statuses), core)
