"""Rates and caps of tenants as real workers keep them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from ferryman import JobContext, Registry
from ferryman.core.queues import PerTenant, QueueSettings, TenantSettings
from tests.support.ledgers import USER
from tests.support.servers import Database
from tests.support.workers import Pipeline, opened_pipeline

jobs = Registry()
at_once: dict[str, list[int]] = {}


@jobs.handler("note")
async def note(ctx: JobContext, ms: int = 0) -> None:
    """Notes how many of its tenant run beside it."""
    seen = at_once.setdefault(ctx.tenant_id, [0])
    seen.append(seen[0] + 1)
    seen[0] += 1
    await asyncio.sleep(ms / 1_000)
    seen[0] -= 1


@pytest.fixture
async def pipeline(ledger_database: Database, redis_url: str) -> AsyncIterator[Pipeline]:
    at_once.clear()
    async with opened_pipeline(ledger_database.service_url, redis_url) as opened:
        yield opened


async def limit(pipeline: Pipeline, **settings: object) -> None:
    record, _ = await pipeline.ledger.queues.put("default", QueueSettings(**settings), USER)  # type: ignore[arg-type]
    await pipeline.dispatcher.configure(record)


async def test_idle_workers_wake_in_time_for_the_next_start_of_a_limited_tenant(pipeline: Pipeline) -> None:
    await limit(pipeline, tenants={"acme": TenantSettings(rate_per_second=20, burst=2)})
    async with pipeline.working(jobs), pipeline.working(jobs):
        ids = [await pipeline.submit("note") for _ in range(22)]
        began = time.monotonic()
        await pipeline.completed(await pipeline.submit("note", tenant_id="globex"))
        assert time.monotonic() - began < 0.9  # it does not wait for the other's rate
        ended = [await pipeline.completed(job_id) for job_id in ids]
    starts = sorted(job.started_at for job in ended if job.started_at)
    for first in range(22):
        for last in range(first, 22):
            window_s = (starts[last] - starts[first]).total_seconds()
            # the ledger notes a start some milliseconds after Redis gave it, one sooner than another
            assert last - first + 1 <= 20 * (window_s + 0.1) + 2
    assert 0.9 < (starts[-1] - starts[0]).total_seconds() < 4


async def test_a_cap_is_kept_by_all_workers_together_and_raised_at_once(pipeline: Pipeline) -> None:
    await limit(pipeline, per_tenant=PerTenant(max_concurrency=2))
    async with pipeline.working(jobs), pipeline.working(jobs):
        ids = [await pipeline.submit("note", b'{"ms":20}') for _ in range(8)]
        for job_id in ids:
            await pipeline.completed(job_id)
        assert max(at_once["acme"]) == 2
        await limit(pipeline, per_tenant=PerTenant(max_concurrency=5))
        ids = [await pipeline.submit("note", b'{"ms":100}') for _ in range(12)]
        for job_id in ids:
            await pipeline.completed(job_id)
    assert 2 < max(at_once["acme"]) <= 5
