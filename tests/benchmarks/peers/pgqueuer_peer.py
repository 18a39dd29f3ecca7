"""pgqueuer 1.6 as its performance guide recommends it: autovacuum set by its own command, a pool for those
who enqueue, one connection for the worker, a larger batch for short jobs, asyncpg and uvloop.

Worker: `python -m tests.benchmarks.peers.pgqueuer_peer`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg
import msgspec
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from tests.benchmarks.beacon import Lamp
from tests.benchmarks.payload import compact, document, key_of

DATABASE_VARIABLE: Final = "FERRYMAN_BENCH_DATABASE_URL"
BATCH: Final = int(os.environ.get("FERRYMAN_BENCH_PGQUEUER_BATCH", "250"))
POOL_MIN, POOL_MAX = 5, 20


async def install(owner_url: str) -> None:
    """Its tables, durable as by default, and the autovacuum settings that its guide asks for."""
    connection = await asyncpg.connect(owner_url)
    try:
        queries = Queries(AsyncpgDriver(connection))
        await queries.install()
        await queries.optimize_autovacuum()
    finally:
        await connection.close()


class Enqueue:
    """`await enqueue(name, key)` for one job; `await enqueue.many(n)` for n no-op jobs in one call."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def __call__(self, name: str = "noop", key: str = "") -> None:
        await self._queries.enqueue(name, compact(document(key)))

    async def many(self, count: int) -> None:
        payload: list[bytes | None] = [compact(document())] * count
        await self._queries.enqueue(["noop"] * count, payload, [0] * count)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Enqueue]:
    """Ready to enqueue."""
    async with asyncpg.create_pool(url, min_size=POOL_MIN, max_size=POOL_MAX) as pool:
        yield Enqueue(Queries(AsyncpgPoolDriver(pool)))


async def work() -> None:
    """Run as a worker until a signal ends the process."""
    connection = await asyncpg.connect(os.environ[DATABASE_VARIABLE])
    worker = PgQueuer(AsyncpgDriver(connection))
    lamp = Lamp()

    @worker.entrypoint("noop")
    async def noop(job: Job) -> None:
        pass

    @worker.entrypoint("flash")
    async def flash(job: Job) -> None:
        lamp.flash(_key(job))

    @worker.entrypoint("hang")
    async def hang(job: Job) -> None:
        lamp.flash(_key(job))
        await asyncio.Event().wait()

    await worker.run(batch_size=BATCH)


def _key(job: Job) -> str:
    return key_of(msgspec.json.decode(job.payload or b"{}"))


if __name__ == "__main__":
    uvloop.run(work())
