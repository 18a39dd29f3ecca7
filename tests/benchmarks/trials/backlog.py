"""What a large backlog costs: claims, submissions and lists beside an empty system; memory; fairness."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import redis.asyncio as aioredis

from tests.benchmarks import direct
from tests.benchmarks.bench import Bench
from tests.benchmarks.latencies import percentiles
from tests.benchmarks.measured import Trial, Values
from tests.benchmarks.rest import Rest
from tests.support.waiting import eventually

EMPTY, FULL = "empty system", "large backlog"
FERRYMAN = "Ferryman"
WATCHED = ("submit", "list", "claim")
CLAIM_SLOTS = 10
NEWCOMER_SECONDS = 60.0
_NEWCOMER_STARTED = "SELECT started_at FROM ferryman.jobs WHERE tenant_id = 'newcomer'"
_BEFORE = """
    SELECT count(*) FROM ferryman.jobs AS job, ferryman.jobs AS newcomer
    WHERE newcomer.tenant_id = 'newcomer' AND job.id <> newcomer.id
        AND job.started_at <= newcomer.started_at AND job.worker_id <> $1
"""


async def _empty(bench: Bench) -> Values:
    async with bench.api() as rest:
        return await _latencies(bench, rest)


async def _full(bench: Bench) -> Values:
    jobs = bench.sizes.backlog
    async with bench.api() as rest:
        before = await _memory(bench)
        await rest.fill(jobs)
        used = await _memory(bench) - before
        await bench.settle()
        watched = await _latencies(bench, rest)
        return {
            "jobs": jobs,
            **watched,
            "redis_bytes_per_job": used / jobs,
            "dispatches_before_newcomer": await _newcomer(bench, rest),
        }


async def _latencies(bench: Bench, rest: Rest) -> dict[str, float]:
    count = bench.sizes.claims
    watched = {
        "submit": await _timed(count, lambda: rest.submit("noop")),
        "list": await _timed(count, rest.page),
        "claim": await _claims(bench, count),
    }
    return {f"{what}_{name}": watched[what][name] for what in watched for name in ("p50_ms", "p99_ms")}


async def _claims(bench: Bench, count: int) -> dict[str, float]:
    """Claims of ten jobs, each batch submitted just before and completed just after, outside the time."""
    spent_ms: list[float] = []
    async with direct.opened(*direct.addresses(bench.stack.environment)) as stores:
        submit, claims = direct.Submit(stores), direct.Claims(stores)
        for _ in range(count):
            await submit.many(CLAIM_SLOTS)
            began = time.perf_counter()
            claimed = await claims.claim(CLAIM_SLOTS)
            spent_ms.append((time.perf_counter() - began) * 1000)
            assert claimed, "nothing could be claimed"
            await claims.complete(claimed)
    return percentiles(spent_ms)


async def _newcomer(bench: Bench, rest: Rest) -> float:
    """How many jobs of the tenant with the backlog a worker of one slot starts before the newcomer's only."""
    await rest.submit("noop", tenant="newcomer")
    ledger = await bench.ledger()
    try:
        bench.worker(1)
        await eventually(lambda: ledger.fetchval(_NEWCOMER_STARTED), within_s=NEWCOMER_SECONDS)
        return float(await ledger.fetchval(_BEFORE, direct.WORKER))
    finally:
        await ledger.close()


async def _timed(count: int, act: Callable[[], Awaitable[object]]) -> dict[str, float]:
    spent_ms: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        await act()
        spent_ms.append((time.perf_counter() - began) * 1000)
    return percentiles(spent_ms)


async def _memory(bench: Bench) -> int:
    async with aioredis.Redis.from_url(bench.stack.redis.url) as client:
        return int((await client.info("memory"))["used_memory"])


TRIALS = (Trial(EMPTY, FERRYMAN, _empty), Trial(FULL, FERRYMAN, _full, rounds=1))
