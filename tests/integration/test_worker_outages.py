"""A worker while Redis or PostgreSQL is away, and after it came back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
import redis.asyncio as redis

from ferryman import JobContext, Registry
from ferryman.core.job import Position
from ferryman.core.status import JobStatus
from ferryman.embedded import EmbeddedPostgres, EmbeddedRedis
from ferryman.ports import Ended
from ferryman.worker.crew import EvictingRedisError
from tests.support.ledgers import USER, assert_books, new_job
from tests.support.servers import Database
from tests.support.waiting import eventually
from tests.support.workers import Pipeline, opened_pipeline

jobs = Registry()
release = asyncio.Event()


@jobs.handler("quick")
async def quick(ctx: JobContext, message: str = "") -> None: ...


@jobs.handler("held")
async def held(ctx: JobContext) -> None:
    await ctx.progress(1, "held")
    await release.wait()


@pytest.fixture
async def pipeline(ledger_database: Database, redis_url: str) -> AsyncIterator[Pipeline]:
    release.clear()
    async with opened_pipeline(ledger_database.service_url, redis_url) as opened:
        yield opened


async def running(pipeline: Pipeline) -> UUID:
    """A job whose handler waits to be released."""
    job_id = await pipeline.submit("held")
    await eventually(lambda: pipeline.get(job_id), lambda job: job.progress_note == "held")
    return job_id


async def test_redis_is_killed_and_comes_back(
    pipeline: Pipeline, redis_server: EmbeddedRedis, ledger_database: Database
) -> None:
    async with pipeline.maintained(), pipeline.working(jobs) as worker:
        before = await running(pipeline)
        await asyncio.to_thread(redis_server.kill)
        during = [(await pipeline.ledger.jobs.insert(new_job(type="quick"), USER)).id for _ in range(5)]
        for job_id in during:
            await pipeline.completed(job_id)
        assert pipeline.metrics.value("ferryman_ledger_only_claims_total", queue="default") == 5
        await asyncio.to_thread(redis_server.start, 20)
        release.set()
        await pipeline.completed(before)

        async def is_cold() -> bool:
            return worker.crew._link.is_away or await pipeline.dispatcher.is_cold("default")

        await eventually(is_cold, lambda cold: not cold)
        after = await pipeline.submit("quick")
        await pipeline.completed(after)
        assert pipeline.metrics.value("ferryman_ledger_only_claims_total", queue="default") == 5
        figures = await eventually(
            lambda: pipeline.dispatcher.figures("default", tenant_id=None),
            lambda seen: seen is not None and seen.running == 0,
        )
        assert figures is not None
        assert figures.pending == 0
    await assert_books(ledger_database.owner_url)


async def test_postgresql_is_killed_and_comes_back(
    pipeline: Pipeline, postgres: EmbeddedPostgres, ledger_database: Database
) -> None:
    async with pipeline.working(jobs) as worker:
        before = await running(pipeline)
        await asyncio.to_thread(postgres.kill)
        release.set()
        while worker.crew.executor.busy:
            await worker.crew.pulse.next()
        assert worker.crew.settler.unflushed == 1
        await asyncio.to_thread(postgres.start, 60)
        await pipeline.completed(before)
        await pipeline.completed(await pipeline.submit("quick"))
    await assert_books(ledger_database.owner_url)


async def test_a_worker_starts_while_redis_is_away(pipeline: Pipeline, redis_server: EmbeddedRedis) -> None:
    await asyncio.to_thread(redis_server.kill)
    async with pipeline.working(jobs):
        inserted = await pipeline.ledger.jobs.insert(new_job(type="quick"), USER)
        await pipeline.completed(inserted.id)
    await asyncio.to_thread(redis_server.start, 20)
    assert (await pipeline.get(inserted.id)).status is JobStatus.COMPLETED


async def test_a_redis_that_may_evict_is_refused(pipeline: Pipeline) -> None:
    async with redis.Redis.from_url(pipeline.redis_url) as client:
        await client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            worker = pipeline.worker(jobs)
            with pytest.raises(EvictingRedisError, match="maxmemory-policy is allkeys-lru"):
                await worker.async_run()
            await worker.close()
        finally:
            await client.config_set("maxmemory-policy", "noeviction")


async def test_claims_on_a_queue_that_was_deleted_are_released(pipeline: Pipeline) -> None:
    await pipeline.make_queue("short-lived")
    async with pipeline.working(jobs, queues=("short-lived", "default")) as worker:
        await pipeline.completed(await pipeline.submit("quick", queue="short-lived"))
        worker.crew.book._settings.pop("short-lived")
        worker.crew.releases.add("short-lived", Ended(UUID(int=1), 1, UUID(int=2)), _gone())
        worker.crew.pulse.beat()
        await pipeline.completed(await pipeline.submit("quick"))
        while worker.crew.releases.has_any:
            await worker.crew.pulse.next()


def _gone() -> Position:
    return Position(id=UUID(int=1), queue="short-lived", tenant_id="acme", kind="gone")
