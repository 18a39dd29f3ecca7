"""arq 0.28 as its documentation shows it: the callers that enqueue, and the worker.

Worker: `python -m tests.benchmarks.peers.arq_peer default|tuned`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any, Final

import uvloop
from arq import create_pool, run_worker
from arq.connections import ArqRedis, RedisSettings
from arq.constants import default_queue_name, result_key_prefix
from arq.jobs import deserialize_result

from tests.benchmarks.beacon import Lamp
from tests.benchmarks.payload import document, key_of

REDIS_VARIABLE: Final = "FERRYMAN_BENCH_ARQ_URL"
POLL_DELAY: Final = 0.01
MAX_JOBS: Final = 100
READ_LIMIT: Final = 500

_lamp = Lamp()


async def noop(_: dict[Any, Any], **payload: Any) -> None:
    """Nothing."""


async def flash(_: dict[Any, Any], **payload: Any) -> None:
    """Says that it started."""
    _lamp.flash(key_of(payload))


async def hang(_: dict[Any, Any], **payload: Any) -> None:
    """Says that it started and lasts until its worker ends."""
    _lamp.flash(key_of(payload))
    await asyncio.Event().wait()


class Default:
    """Nothing set but what must be."""

    functions = [noop, flash, hang]


class Tuned:
    """Polls 50 times as often, runs 10 times as many jobs at once, and reads as far ahead as that takes."""

    functions = [noop, flash, hang]  # arq reads a settings class without its bases
    poll_delay = POLL_DELAY
    max_jobs = MAX_JOBS
    queue_read_limit = READ_LIMIT


class Enqueue:
    """`await enqueue(name, key)`, one job a call."""

    def __init__(self, redis: ArqRedis) -> None:
        self._redis = redis

    async def __call__(self, name: str = "noop", key: str = "") -> None:
        assert await self._redis.enqueue_job(name, **document(key)) is not None


async def connect(url: str) -> ArqRedis:
    """A pool on the peers' database of Redis."""
    return await create_pool(RedisSettings.from_dsn(url))


async def waiting(redis: ArqRedis) -> int:
    """Jobs that wait or run."""
    return int(await redis.zcard(default_queue_name))


async def finished_at(redis: ArqRedis) -> list[float]:
    """When each job ended, by the results that arq keeps; Unix seconds."""
    keys = [key async for key in redis.scan_iter(f"{result_key_prefix}*", count=1000)]
    found: list[float] = []
    for start in range(0, len(keys), 1000):
        values = await redis.mget(keys[start : start + 1000])
        found += [deserialize_result(value).finish_time.timestamp() for value in values]
    return found


if __name__ == "__main__":
    settings = RedisSettings.from_dsn(os.environ[REDIS_VARIABLE])
    if sys.argv[1] == "tuned":
        uvloop.install()
        run_worker(Tuned, redis_settings=settings)  # type: ignore[arg-type]
    else:
        run_worker(Default, redis_settings=settings)  # type: ignore[arg-type]
