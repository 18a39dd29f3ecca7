"""Programs that enqueue without HTTP: Ferryman's own `submit`, arq and pgqueuer, in a process of their own.

Standard input: a JSON document with the fields of `Plan`; output: one with the figures.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Literal

import uvloop

from tests.benchmarks.latencies import summary

Subject = Literal["ferryman", "arq", "pgqueuer"]
Call = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """So many `callers`, each with one call at a time; a call stands for `bulk` jobs. Measures for `seconds`
    after `warm_seconds`, or, with `calls` given, until so many were made.
    """

    subject: Subject
    callers: int
    bulk: int = 1
    warm_seconds: float = 0.3
    seconds: float = 2.0
    calls: int | None = None


def document(plan: Plan) -> str:
    """The plan as the process takes it."""
    return json.dumps(asdict(plan))


@asynccontextmanager
async def _calling(plan: Plan) -> AsyncIterator[Call]:
    match plan.subject:
        case "arq":
            from tests.benchmarks.peers import arq_peer

            async with await arq_peer.connect(os.environ[arq_peer.REDIS_VARIABLE]) as redis:
                yield arq_peer.Enqueue(redis)
        case "pgqueuer":
            from tests.benchmarks.peers import pgqueuer_peer

            async with pgqueuer_peer.connected(os.environ[pgqueuer_peer.DATABASE_VARIABLE]) as enqueue:
                yield enqueue if plan.bulk == 1 else lambda: enqueue.many(plan.bulk)
        case "ferryman":
            from tests.benchmarks import direct

            async with direct.opened(*direct.addresses(os.environ)) as stores:
                submit = direct.Submit(stores)
                yield submit if plan.bulk == 1 else lambda: submit.many(plan.bulk)


async def _run(plan: Plan) -> dict[str, float]:
    latencies: list[float] = []
    left = plan.calls if plan.calls is not None else sys.maxsize
    async with _calling(plan) as call:
        gc.disable()
        begin = time.perf_counter() + (plan.warm_seconds if plan.calls is None else 0)
        end = begin + plan.seconds if plan.calls is None else float("inf")

        async def caller() -> None:
            nonlocal left
            while (started := time.perf_counter()) < end and left > 0:
                left -= 1
                await call()
                ended = time.perf_counter()
                if begin <= ended <= end:
                    latencies.append(ended - started)

        await asyncio.gather(*(caller() for _ in range(plan.callers)))
        seconds = min(time.perf_counter(), end) - begin
    return summary(len(latencies) * plan.bulk, seconds, latencies)


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_run(Plan(**json.load(sys.stdin))))))
