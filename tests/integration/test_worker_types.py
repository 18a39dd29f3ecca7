"""Workers of one queue that know different types: a job waits for one that knows it, and for nothing else."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from ferryman import JobContext, Registry
from ferryman.core.job import Position
from ferryman.core.queues import PerTenant, QueueSettings
from ferryman.core.status import JobStatus
from ferryman.dispatch import keys
from ferryman.ports import QueueFigures
from tests.support import dispatching
from tests.support.dispatching import waiting, warm
from tests.support.ledgers import USER
from tests.support.servers import Database
from tests.support.waiting import eventually
from tests.support.workers import Pipeline, opened_pipeline

common, special = Registry(), Registry()


@common.handler("common")
@special.handler("common")
async def run_common(ctx: JobContext) -> None: ...


@special.handler("special")
async def run_special(ctx: JobContext) -> None: ...


@pytest.fixture
async def pipeline(ledger_database: Database, redis_url: str) -> AsyncIterator[Pipeline]:
    async with opened_pipeline(ledger_database.service_url, redis_url) as opened:
        yield opened


def put_off(position: Position, type: str = "special") -> Position:
    """The same job, waiting for a worker that knows its type."""
    return Position(
        id=position.id,
        queue=position.queue,
        tenant_id=position.tenant_id,
        kind="waiting",
        score=position.score,
        type=type,
        put_off="by_type",
    )


async def figures(pipeline: Pipeline) -> QueueFigures | None:
    return await pipeline.dispatcher.figures("default", tenant_id=None)


async def test_a_job_whose_type_no_worker_knows_counts_as_pending_and_is_asked_for_once(
    pipeline: Pipeline,
) -> None:
    async with pipeline.working(common):
        job_id = await pipeline.submit("special")
        async with Redis.from_url(pipeline.redis_url) as client:
            await eventually(lambda: client.zcard(f"{keys.prefix('default')}:aside"), lambda n: n == 1)
        await pipeline.completed(await pipeline.submit("common"))
        assert await figures(pipeline) == QueueFigures(pending=1, scheduled=0, retrying=0, running=0)
        assert pipeline.metrics.value("ferryman_refused_claims_total", queue="default") == 1
        assert await pipeline.dispatcher.missing(await pipeline.ledger.jobs.positions([job_id])) == []
        async with pipeline.working(special):
            await pipeline.completed(job_id, within_s=3)


async def test_a_job_that_one_of_the_idle_workers_knows_is_found_at_its_next_look(  # one a second
    pipeline: Pipeline,
) -> None:
    async with (
        pipeline.working(common),
        pipeline.working(common),
        pipeline.working(common),
        pipeline.working(special),
    ):
        for _ in range(3):
            began = time.monotonic()
            await pipeline.completed(await pipeline.submit("special"))
            assert time.monotonic() - began < 2.5


async def test_a_refused_claim_costs_its_tenant_neither_a_start_nor_worker_time(pipeline: Pipeline) -> None:
    limits = PerTenant(rate_per_second=0.01, burst=2)
    await pipeline.ledger.queues.put("default", QueueSettings(per_tenant=limits), USER)
    await pipeline.warm()
    async with pipeline.working(common):
        await pipeline.submit("special")
        await eventually(lambda: _refused(pipeline), lambda refused: refused == 1)
        both = [await pipeline.submit("common"), await pipeline.submit("common")]
        for job_id in both:
            await pipeline.completed(job_id)
        held_back = await pipeline.submit("common")
        assert (await pipeline.get(held_back)).status is JobStatus.PENDING


async def _refused(pipeline: Pipeline) -> float:
    return pipeline.metrics.value("ferryman_refused_claims_total", queue="default")


async def test_jobs_that_wait_for_a_worker_take_their_places_in_the_queue(pipeline: Pipeline) -> None:
    await warm(pipeline.dispatcher)
    positions = [waiting() for _ in range(3)]
    await pipeline.dispatcher.push([put_off(positions[0]), *positions[1:]])
    assert await pipeline.dispatcher.admit("q", 5, limit=5) == 2
    assert await pipeline.dispatcher.missing(positions) == []


async def test_a_worker_gets_what_waits_for_it_in_its_order(pipeline: Pipeline) -> None:
    await warm(pipeline.dispatcher)
    positions = [waiting(at_ms=number) for number in range(6)]
    aside, others = positions[:3], positions[3:]
    await pipeline.dispatcher.push([*map(put_off, aside), put_off(waiting(), "specials"), *others])
    assert [i for i, _ in (await dispatching.claim(pipeline.dispatcher, 1)).claimed] == [others[0].id]
    tokens = [uuid4() for _ in range(6)]
    step = await pipeline.dispatcher.step("q", ended=[], tokens=tokens, lease_ms=1_000, types=["special"])
    assert [i for i, _ in step.claimed] == [one.id for one in (*aside, *others[1:])]
