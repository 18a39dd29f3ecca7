"""An arq settings class as it stands, on real PostgreSQL and Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import pytest
from arq import Retry, cron, func
from arq.connections import RedisSettings
from arq.jobs import JobStatus as ArqStatus
from arq.jobs import ResultNotFound, SerializationError

from ferryman.core.status import JobStatus
from ferryman.ports import JobFilter
from ferryman.worker.arq_redis import LedgerJob, LedgerRedis
from ferryman.worker.binding import RegistrationError
from ferryman.worker.runtime import PipelineWorker
from tests.support.ledgers import assert_books
from tests.support.servers import Database
from tests.support.waiting import eventually
from tests.support.workers import ACME, EVERYONE, Pipeline, opened_pipeline

seen: list[tuple[Any, ...]] = []


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()


@pytest.fixture
async def pipeline(ledger_database: Database, redis_url: str) -> AsyncIterator[Pipeline]:
    async with opened_pipeline(ledger_database.service_url, redis_url) as opened:
        yield opened


async def add(ctx: dict[str, Any], a: int, b: int = 0) -> int:
    seen.append(("add", a, b, ctx["shared"]))
    return a + b


async def again(ctx: dict[str, Any]) -> str:
    seen.append(("again", ctx["job_try"]))
    if ctx["job_try"] < 3:
        raise Retry(defer=0.02)
    return "done"


async def always_again(ctx: dict[str, Any]) -> None:
    seen.append(("always_again", ctx["job_try"]))
    raise Retry


async def broken(ctx: dict[str, Any]) -> None:
    raise ValueError("as arq fails it")


async def slow(ctx: dict[str, Any]) -> None:
    await asyncio.Event().wait()


async def spawns(ctx: dict[str, Any]) -> str:
    job = await ctx["redis"].enqueue_job("add", 2, b=5)
    return str(job.job_id)


async def details(ctx: dict[str, Any]) -> dict[str, Any]:
    return {name: str(ctx[name]) for name in ("job_id", "job_try", "enqueue_time", "score")}


async def startup(ctx: dict[str, Any]) -> None:
    seen.append(("startup", type(ctx["redis"]).__name__))
    ctx["shared"] = 42


async def shutdown(ctx: dict[str, Any]) -> None:
    seen.append(("shutdown", ctx["shared"]))


def hook(name: str) -> Callable[[dict[str, Any]], Any]:
    async def call(ctx: dict[str, Any]) -> None:
        seen.append((name, ctx["job_id"]))

    return call


class WorkerSettings:
    """What an application has had for years."""

    functions = [
        add,
        again,
        func(always_again, max_tries=2),
        broken,
        func(slow, name="slow", timeout=0.1),
        spawns,
        details,
    ]
    on_startup = startup
    on_shutdown = shutdown
    max_jobs = 7
    max_tries = 4


def redis_of(worker: PipelineWorker) -> LedgerRedis:
    return cast(LedgerRedis, worker.pool)


async def test_functions_run_with_hooks_and_context(pipeline: Pipeline, ledger_database: Database) -> None:
    settings = {
        **vars(WorkerSettings),
        "on_job_start": hook("start"),
        "on_job_end": hook("end"),
        "after_job_end": hook("after"),
    }
    async with pipeline.working(settings) as worker:
        assert worker.crew.identity.slots == 7
        job_id = await pipeline.submit("add", b'{"a":1,"b":2}')
        job = await pipeline.completed(job_id)
        assert job.output == b'{"result": 3}'
        await eventually(_has_seen("after"))
        told = await pipeline.completed(await pipeline.submit("details"))
        assert str(told.id).encode() in (told.output or b"")
    assert seen[0] == ("startup", "LedgerRedis")
    assert seen[1:5] == [
        ("start", str(job_id)),
        ("add", 1, 2, 42),
        ("end", str(job_id)),
        ("after", str(job_id)),
    ]
    assert seen[-1] == ("shutdown", 42)
    await assert_books(ledger_database.owner_url)


async def test_retry_counts_tries_and_anything_else_is_final(pipeline: Pipeline) -> None:
    async with pipeline.working(WorkerSettings):
        job = await pipeline.completed(await pipeline.submit("again"))
        assert [call for call in seen if call[0] == "again"] == [("again", 1), ("again", 2), ("again", 3)]
        assert job.retry_count == 2
        job = await pipeline.reaches(await pipeline.submit("always_again"), JobStatus.DEAD_LETTER)
        assert job.attempt == 2
        job = await pipeline.reaches(await pipeline.submit("broken"), JobStatus.DEAD_LETTER)
        assert (job.attempt, job.error_class, job.error_message) == (1, "PERMANENT", "as arq fails it")
        job = await pipeline.reaches(await pipeline.submit("slow"), JobStatus.DEAD_LETTER)
        assert job.error_message == "it ran longer than its 100 ms"
        job = await pipeline.reaches(await pipeline.submit("add", b'{"c":1}'), JobStatus.DEAD_LETTER)
        assert "unexpected keyword argument" in (job.error_message or "")


async def test_a_function_enqueues_through_the_ledger(pipeline: Pipeline) -> None:
    async with pipeline.working(WorkerSettings):
        parent = await pipeline.completed(await pipeline.submit("spawns"))
        page = await pipeline.ledger.jobs.find(ACME, JobFilter(types=("add",)), limit=5, after=None)
        (child,) = page.rows
        child = await pipeline.completed(child.id)
        assert child.output == b'{"result": 7}'
        assert child.input == b'{"b": 5, "args": [2]}'
        assert str(child.id).encode() in (parent.output or b"")
        assert (child.tenant_id, child.user_id, child.queue) == ("acme", 7, "default")
        assert child.correlation_id == parent.correlation_id


async def test_a_job_reference_answers_like_arqs(pipeline: Pipeline) -> None:
    async with pipeline.working(WorkerSettings) as worker:
        await eventually(_has_seen("startup"))
        redis = redis_of(worker)
        job = await redis.enqueue_job("add", 20, 22)
        assert isinstance(job, LedgerJob)
        assert UUID(job.job_id)
        assert await job.result(timeout=10, poll_delay=0.02) == 42
        assert await job.status() is ArqStatus.complete
        info = await job.result_info()
        assert info is not None
        assert (info.function, info.args, info.success, info.result) == ("add", (20, 22), True, 42)
        stored = await pipeline.get(UUID(job.job_id))
        assert (stored.tenant_id, stored.user_id) == ("system", 0)
        failed = await redis.enqueue_job("broken")
        assert failed is not None
        with pytest.raises(RuntimeError, match="as arq fails it"):
            await failed.result(timeout=10, poll_delay=0.02)
        later = await redis.enqueue_job("add", 1, _defer_by=60)
        assert later is not None
        assert await later.status() is ArqStatus.deferred
        assert await later.result_info() is None
        assert await later.abort(timeout=10, poll_delay=0.02)
        nobody = LedgerJob(UUID(int=1), "system", redis, "default")
        assert await nobody.status() is ArqStatus.not_found
        with pytest.raises(ResultNotFound):
            await nobody.result()


async def test_options_of_enqueue_job(pipeline: Pipeline) -> None:
    async with pipeline.working(WorkerSettings) as worker:
        await eventually(_has_seen("startup"))
        redis = redis_of(worker)
        first = await redis.enqueue_job("add", 1, _job_id="the-one", _defer_by=timedelta(hours=1))
        assert first is not None
        assert await redis.enqueue_job("add", 2, _job_id="the-one") is None
        at = datetime.now(UTC) + timedelta(hours=2)
        second = await redis.enqueue_job("add", 3, _defer_until=at, _expires=10_000, _job_try=3)
        assert second is not None
        job = await pipeline.get(UUID(second.job_id))
        assert abs(job.run_at - at) < timedelta(milliseconds=2)
        assert job.expires_at is not None
        with pytest.raises(RuntimeError):
            await redis.enqueue_job("add", _defer_by=1, _defer_until=at)
        with pytest.raises(SerializationError):
            await redis.enqueue_job("add", object())
        tried = await redis.enqueue_job("again", _job_try=3)
        assert tried is not None
        assert await tried.result(timeout=10, poll_delay=0.02) == "done"
        assert ("again", 3) in seen


async def test_a_cron_tick_is_one_job_across_workers(pipeline: Pipeline, ledger_database: Database) -> None:
    async def tick(ctx: dict[str, Any]) -> None:
        seen.append(("tick", ctx["job_id"]))

    tick.__qualname__ = "tick"

    def settings() -> dict[str, Any]:
        return {"cron_jobs": [cron(tick, name="cron:tick", second=set(range(60)), microsecond=0)]}

    async with pipeline.working(settings()), pipeline.working(settings()):
        await eventually(_has_seen("tick", 3))
    ids = [job_id for name, job_id in seen if name == "tick"]
    assert len(ids) == len(set(ids))
    page = await pipeline.ledger.jobs.find(EVERYONE, JobFilter(types=("cron:tick",)), limit=50, after=None)
    instants = [job.run_at.replace(microsecond=0) for job in page.rows]
    assert len(instants) == len(set(instants))
    assert {job.tenant_id for job in page.rows} == {"system"}
    await assert_books(ledger_database.owner_url)


async def test_a_tick_that_has_run_is_not_run_again(pipeline: Pipeline) -> None:
    async with pipeline.working(WorkerSettings) as worker:
        await eventually(_has_seen("startup"))
        redis = redis_of(worker)
        redis.enqueuer.cron_names = frozenset({"add"})
        first = await redis.enqueue_job("add", 1, _job_id="add:1700000000000")
        assert first is not None
        await first.result(timeout=10, poll_delay=0.02)
        second = await redis.enqueue_job("add", 1, _job_id="add:1700000000000")
        assert second is None or second.job_id == first.job_id
        assert await pipeline.ledger.jobs.history(ACME, UUID(first.job_id), limit=50, after=None)
        assert (await pipeline.get(UUID(first.job_id))).attempt == 1


async def test_redis_being_away_stops_neither_start_nor_end(pipeline: Pipeline) -> None:
    settings = {**vars(WorkerSettings), "redis_settings": RedisSettings(port=1)}
    async with pipeline.working(settings):
        job = await pipeline.completed(await pipeline.submit("add", b'{"args":[3,4]}'))
        assert job.output == b'{"result": 7}'
    assert seen[-1] == ("shutdown", 42)
    assert [call for call in seen if call[0] == "shutdown"] == [("shutdown", 42)]


async def test_burst_ends_when_nothing_is_left(pipeline: Pipeline) -> None:
    ids = [await pipeline.submit("add", b'{"a":1}') for _ in range(30)]
    worker = pipeline.worker({**vars(WorkerSettings), "burst": True})
    await asyncio.wait_for(worker.async_run(), 10)
    await worker.close()
    assert {(await pipeline.get(job_id)).status for job_id in ids} == {JobStatus.COMPLETED}
    assert worker.report().completed == 30


async def test_a_failing_startup_ends_the_worker(pipeline: Pipeline) -> None:
    async def failing(ctx: dict[str, Any]) -> None:
        raise RuntimeError("no licence")

    worker = pipeline.worker({**vars(WorkerSettings), "on_startup": failing, "on_shutdown": None})
    with pytest.raises(RuntimeError, match="no licence"):
        await worker.async_run()
    await worker.close()


async def test_a_name_that_no_job_can_have_is_refused_at_once(pipeline: Pipeline) -> None:
    async def local(ctx: dict[str, Any]) -> None: ...

    with pytest.raises(RegistrationError, match="cannot be a type of job"):
        pipeline.worker({"functions": [local]})


def _has_seen(name: str, count: int = 1) -> Callable[[], Any]:
    async def look() -> bool:
        return len([call for call in seen if call[0] == name]) >= count

    return look


async def test_a_hook_that_fails_changes_no_end(pipeline: Pipeline) -> None:
    async def failing(ctx: dict[str, Any]) -> None:
        raise RuntimeError("hook")

    settings = {**vars(WorkerSettings), "on_job_end": failing, "after_job_end": failing}
    async with pipeline.working(settings):
        await pipeline.completed(await pipeline.submit("add", b'{"a":1}'))
        await pipeline.completed(await pipeline.submit("add", b'{"a":2}'))


async def test_a_job_of_another_tenant_keeps_its_children(pipeline: Pipeline) -> None:
    async with pipeline.working(WorkerSettings):
        parent = await pipeline.submit("spawns", tenant_id="globex", user_id=9)
        await pipeline.completed(parent)
        page = await pipeline.ledger.jobs.find(EVERYONE, JobFilter(types=("add",)), limit=5, after=None)
        assert [(job.tenant_id, job.user_id) for job in page.rows] == [("globex", 9)]
