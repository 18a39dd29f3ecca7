"""A worker at work on real PostgreSQL and Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import msgspec
import pytest
import redis.asyncio as redis

from ferryman import JobContext, PermanentError, Registry, Snooze, TransientError
from ferryman.core.status import JobStatus
from ferryman.ports import JobFilter
from tests.support.ledgers import USER, assert_books, new_job, rows, value
from tests.support.servers import Database
from tests.support.waiting import eventually
from tests.support.workers import ACME, Pipeline, opened_pipeline

jobs = Registry()


@jobs.handler("echo")
async def echo(ctx: JobContext, message: str = "") -> dict[str, Any]:
    return {"reply": message.upper()}


@jobs.handler("flaky", max_retries=3, retry_delay_ms=10)
async def flaky(ctx: JobContext) -> dict[str, Any]:
    if ctx.attempt < 3:
        raise TransientError(f"attempt {ctx.attempt}")
    return {"attempt": ctx.attempt}


@jobs.handler("doomed")
async def doomed(ctx: JobContext) -> None:
    raise PermanentError("asked for")


@jobs.handler("snoozy")
async def snoozy(ctx: JobContext) -> dict[str, Any]:
    if ctx.cursor is None:
        await ctx.save_cursor("seen")
        raise Snooze(50)
    return {"cursor": ctx.cursor}


@jobs.handler("hang")
async def hang(ctx: JobContext) -> None:
    await ctx.progress(10, "hanging")
    await asyncio.Event().wait()


@jobs.handler("thread")
def thread(ctx: JobContext) -> dict[str, Any]:
    ctx.progress(30, "in a thread")
    return {"thread": True}


@jobs.handler("parent")
async def parent(ctx: JobContext, ok: bool = True) -> dict[str, Any]:
    child = await ctx.enqueue("echo", {"message": "child"}, priority=3)
    if not ok:
        raise PermanentError("no children")
    return {"child": child}


@jobs.handler("busy")
async def busy(ctx: JobContext, ms: int) -> dict[str, Any]:
    """Keeps the event loop to itself."""
    until = time.monotonic() + ms / 1_000
    while time.monotonic() < until:
        pass
    return {"attempt": ctx.attempt}


@pytest.fixture
async def pipeline(ledger_database: Database, redis_url: str) -> AsyncIterator[Pipeline]:
    async with opened_pipeline(ledger_database.service_url, redis_url) as opened:
        yield opened


async def test_jobs_of_every_kind_come_to_their_end(pipeline: Pipeline, ledger_database: Database) -> None:
    async with pipeline.working(jobs) as worker:
        echoed = await pipeline.submit("echo", b'{"message":"hello"}')
        retried = await pipeline.submit("flaky")
        dead = await pipeline.submit("doomed")
        snoozed = await pipeline.submit("snoozy")
        threaded = await pipeline.submit("thread")
        job = await pipeline.completed(echoed)
        assert job.output == b'{"reply": "HELLO"}'
        assert job.worker_id == worker.crew.identity.worker_id
        job = await pipeline.completed(retried)
        assert (job.attempt, job.retry_count) == (3, 2)
        job = await pipeline.reaches(dead, JobStatus.DEAD_LETTER)
        assert (job.error_class, job.error_message) == ("PERMANENT", "asked for")
        job = await pipeline.completed(snoozed)
        assert (job.attempt, job.retry_count) == (2, 0)
        job = await pipeline.completed(threaded)
        assert (job.progress_percent, job.progress_note) == (30.0, "in a thread")
    await assert_books(ledger_database.owner_url)
    assert worker.report().completed == 4


async def test_after_the_work_redis_holds_nothing_of_it(pipeline: Pipeline) -> None:
    async with pipeline.working(jobs, concurrency=50):
        ids = [await pipeline.submit("echo") for _ in range(120)]
        for job_id in ids:
            await pipeline.completed(job_id)

        async def nothing_left() -> tuple[int, int]:
            figures = await pipeline.dispatcher.figures("default", tenant_id=None)
            assert figures is not None
            return figures.running, figures.pending

        await eventually(nothing_left, lambda left: left == (0, 0))


async def test_a_running_job_is_cancelled_within_two_heartbeats(pipeline: Pipeline) -> None:
    async with pipeline.working(jobs):
        job_id = await pipeline.submit("hang")
        await eventually(lambda: pipeline.get(job_id), lambda job: job.progress_note == "hanging")
        began = time.monotonic()
        result, _ = await pipeline.ledger.jobs.cancel(ACME, job_id, USER)
        assert result == "requested"
        await pipeline.reaches(job_id, JobStatus.CANCELLED)
        assert time.monotonic() - began < 4.5


async def test_a_time_limit_is_kept(pipeline: Pipeline) -> None:
    async with pipeline.working(jobs):
        job_id = await pipeline.submit("hang", timeout_ms=100, max_retries=0, max_retries_given=True)
        job = await pipeline.reaches(job_id, JobStatus.DEAD_LETTER)
        assert job.error_class == "TIMEOUT"


async def test_children_are_stored_with_the_completion_or_not_at_all(pipeline: Pipeline) -> None:
    async with pipeline.working(jobs):
        job = await pipeline.completed(await pipeline.submit("parent"))
        child = UUID(msgspec.json.decode(job.output or b"")["child"])
        stored = await pipeline.completed(child)
        assert (stored.tenant_id, stored.user_id, stored.priority) == (job.tenant_id, job.user_id, 3)
        await pipeline.reaches(await pipeline.submit("parent", b'{"ok":false}'), JobStatus.DEAD_LETTER)
        page = await pipeline.ledger.jobs.find(ACME, JobFilter(types=("echo",)), limit=10, after=None)
        assert [one.id for one in page.rows] == [child]


async def test_a_busy_event_loop_keeps_its_lease(pipeline: Pipeline) -> None:
    """The handler holds the loop for three visibility timeouts while the maintainer looks for lost leases."""
    await pipeline.make_queue("short", visibility_timeout_ms=400)
    async with pipeline.maintained(), pipeline.working(jobs, queues=("short",)):
        job_id = await pipeline.submit("busy", b'{"ms":2000}', queue="short", visibility_timeout_ms=400)
        job = await pipeline.completed(job_id)
        assert job.attempt == 1
        assert job.crashes == 0


async def test_a_visibility_timeout_of_the_jobs_own_is_beaten_in_time(pipeline: Pipeline) -> None:
    async with pipeline.maintained(), pipeline.working(jobs):
        job_id = await pipeline.submit("hang", visibility_timeout_ms=150, timeout_ms=1_500)
        job = await eventually(lambda: pipeline.get(job_id), lambda job: job.retry_count == 1)
        assert job.crashes == 0
        assert job.error_class == "TIMEOUT"


async def test_a_type_that_no_worker_knows_waits(pipeline: Pipeline) -> None:
    async with pipeline.working(jobs):
        unknown = await pipeline.submit("unknown")
        await pipeline.completed(await pipeline.submit("echo"))
        job = await pipeline.get(unknown)
        assert (job.status, job.attempt) == (JobStatus.PENDING, 0)


async def test_without_redis_the_work_goes_on(pipeline: Pipeline) -> None:
    async with pipeline.working(jobs) as worker:
        await pipeline.completed(await pipeline.submit("echo"))
        async with redis.Redis.from_url(pipeline.redis_url) as client:
            await client.execute_command("FLUSHALL")
        # Redis knows nothing of the queue now: its workers turn to the ledger.
        inserted = await pipeline.ledger.jobs.insert(new_job(type="echo"), USER)
        await pipeline.completed(inserted.id)
        assert pipeline.metrics.value("ferryman_ledger_only_claims_total", queue="default") == 1
        assert worker.crew.executor.zombies == 0


async def test_a_stopping_worker_gives_back_what_does_not_end(
    pipeline: Pipeline, ledger_database: Database
) -> None:
    async with pipeline.working(jobs, shutdown_grace_s=0.2) as worker:
        job_id = await pipeline.submit("hang")
        await eventually(lambda: pipeline.get(job_id), lambda job: job.progress_note == "hanging")
    job = await pipeline.get(job_id)
    assert (job.status, job.retry_count, job.crashes) == (JobStatus.PENDING, 0, 0)
    assert await value(ledger_database.owner_url, "SELECT count(*) FROM ferryman.workers") == 0
    figures = await pipeline.dispatcher.figures("default", tenant_id=None)
    assert figures is not None
    assert (figures.running, figures.pending) == (0, 1)
    assert worker.report().exit_code == 0
    await assert_books(ledger_database.owner_url)


async def test_a_drain_by_request_and_back(pipeline: Pipeline, ledger_database: Database) -> None:
    async with pipeline.working(jobs) as worker:
        await pipeline.completed(await pipeline.submit("echo"))
        url = ledger_database.owner_url

        async def state() -> Any:
            return await value(url, "SELECT state FROM ferryman.workers")

        await rows(url, "UPDATE ferryman.workers SET drain_requested = true")
        await eventually(state, lambda seen: seen == "drained")
        waiting = await pipeline.submit("echo")
        assert (await pipeline.get(waiting)).status is JobStatus.PENDING
        await rows(url, "UPDATE ferryman.workers SET drain_requested = false")
        await pipeline.completed(waiting)
        assert worker.crew.state == "running"


async def test_a_suspect_runs_alone(pipeline: Pipeline, ledger_database: Database) -> None:
    job_id = await pipeline.submit("echo")
    await rows(ledger_database.owner_url, "UPDATE ferryman.jobs SET crashes = 2")
    async with pipeline.working(jobs):
        await pipeline.completed(job_id)
        isolated = await value(ledger_database.owner_url, "SELECT isolated FROM ferryman.jobs")
        assert isolated is True


async def test_priority_is_kept_across_a_batch(pipeline: Pipeline, ledger_database: Database) -> None:
    low = [await pipeline.submit("echo", priority=0) for _ in range(3)]
    high = [await pipeline.submit("echo", priority=50) for _ in range(3)]
    async with pipeline.working(jobs, concurrency=1):
        for job_id in low + high:
            await pipeline.completed(job_id)
    order = await rows(ledger_database.owner_url, "SELECT id FROM ferryman.jobs ORDER BY started_at")
    assert [row["id"] for row in order] == high + low
