"""The loops that heal, each by its one step, on a real ledger and a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis.asyncio as redis

from ferryman.core.job import Beat, Inserted, Position
from ferryman.core.priority import DEFAULT_AGING_MS, score
from ferryman.dispatch.dispatcher import RedisDispatcher, open_dispatcher
from ferryman.ledger.postgres import PostgresLedger, open_ledger
from ferryman.maintainer.maintainer import Maintainer
from ferryman.maintainer.reaper import WORKER_SILENCE_MS, Reaper
from ferryman.maintainer.steadiness import Steadiness
from ferryman.maintainer.sweeper import Rebuilder, Sweeper
from ferryman.maintainer.timekeeping import Expirer, Partitioner, Promoter
from ferryman.telemetry.metrics import Metrics
from tests.support.ledgers import TYPES, USER, assert_books, new_job, value
from tests.support.servers import Database
from tests.support.waiting import eventually

QUEUE = "default"


class HandClock:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def now(self) -> Any:
        raise AssertionError("the maintainer goes by the ledger's clock")

    def monotonic(self) -> float:
        return self.seconds


class Scene:
    """A ledger, a dispatcher and what happens between them."""

    def __init__(self, url: str, ledger: PostgresLedger, dispatcher: RedisDispatcher) -> None:
        self.url = url
        self.ledger = ledger
        self.dispatcher = dispatcher
        self.clock = HandClock()
        self.metrics = Metrics()
        self.steadiness = Steadiness(self.clock)
        self.clock.seconds += WORKER_SILENCE_MS / 1_000
        self.reaper = Reaper(ledger, dispatcher, self.steadiness, self.metrics)
        self.sweeper = Sweeper(ledger, dispatcher, self.clock, self.metrics)
        self.rebuilder = Rebuilder(ledger, dispatcher, self.metrics)

    async def submitted(self, *, pushed: bool = True, **fields: Any) -> UUID:
        stored = await self.ledger.jobs.insert(new_job(**fields), USER)
        if pushed:
            await self.dispatcher.push([position_of(stored)])
        return stored.id

    async def claimed(self, *, lease_ms: int = 60_000, worker: str = "w1") -> UUID:
        """One job, claimed in Redis and in the ledger by a worker that then falls silent."""
        step = await self.dispatcher.step(QUEUE, ended=(), tokens=[uuid4()], lease_ms=lease_ms)
        (job,) = await self.ledger.attempts.claim(worker, step.claimed, queue="default", types=TYPES)
        return job.id

    async def offered(self) -> list[UUID]:
        """What a worker would get now."""
        step = await self.dispatcher.step(
            QUEUE, ended=(), tokens=[uuid4() for _ in range(10)], lease_ms=60_000
        )
        return [job_id for job_id, _ in step.claimed]

    async def status(self, job_id: UUID) -> Any:
        return await value(self.url, "SELECT status FROM ferryman.jobs WHERE id = $1", job_id)

    async def crashes(self, job_id: UUID) -> Any:
        return await value(self.url, "SELECT crashes FROM ferryman.jobs WHERE id = $1", job_id)

    async def age(self, job_id: UUID, *, by_ms: int) -> None:
        """Let the lease in the ledger have been written earlier."""
        earlier = "UPDATE ferryman.jobs SET lease_until = lease_until - $2 * interval '1 ms'"
        await value(self.url, f"{earlier} WHERE id = $1 RETURNING 1", job_id, by_ms)


def position_of(stored: Inserted) -> Position:
    return Position(
        id=stored.id,
        queue=stored.queue,
        tenant_id=stored.tenant_id,
        kind="waiting",
        score=score(ready_ms=stored.ready_ms, priority=stored.priority, aging_ms=DEFAULT_AGING_MS),
        due_in_ms=stored.due_in_ms,
    )


@pytest.fixture
async def scene(ledger_database: Database, redis_url: str) -> AsyncIterator[Scene]:
    async with open_ledger(ledger_database.service_url) as ledger:
        dispatcher = open_dispatcher(redis_url)
        try:
            made = Scene(ledger_database.owner_url, ledger, dispatcher)
            await made.rebuilder.run_once()
            yield made
            await assert_books(ledger_database.owner_url)
        finally:
            await dispatcher.close()


async def test_an_overdue_lease_is_reaped_once_the_ledger_agrees(scene: Scene) -> None:
    job_id = await scene.submitted(visibility_timeout_ms=100)
    await scene.claimed(lease_ms=1)
    await scene.age(job_id, by_ms=150)
    await eventually(scene.reaper.run_once)
    assert await scene.status(job_id) == "pending"
    assert await scene.crashes(job_id) == 1
    assert await scene.offered() == [job_id]


async def test_an_attempt_that_the_ledger_hears_of_keeps_its_lease(scene: Scene) -> None:
    job_id = await scene.submitted(visibility_timeout_ms=30_000)
    await scene.claimed(lease_ms=1)
    await eventually(scene.reaper.run_once)
    assert await scene.status(job_id) == "running"
    assert await scene.offered() == []


async def test_a_lease_that_ran_out_in_the_ledger_is_reaped_without_redis(scene: Scene) -> None:
    job_id = await scene.submitted(visibility_timeout_ms=1_000)
    await scene.claimed()
    await scene.age(job_id, by_ms=10_000)
    assert await scene.reaper.run_once() == 1
    assert await scene.offered() == [job_id]


async def test_after_an_outage_workers_may_beat_before_anybody_reaps(scene: Scene) -> None:
    job_id = await scene.submitted(visibility_timeout_ms=5_000)
    await scene.claimed()
    await scene.age(job_id, by_ms=60_000)
    scene.steadiness.broken()
    scene.clock.seconds += 4.9
    assert await scene.reaper.run_once() == 0
    scene.clock.seconds += 0.2
    assert await scene.reaper.run_once() == 1


async def test_all_leases_of_a_silent_worker_end_whatever_their_timeout(scene: Scene) -> None:
    job_ids = [await scene.submitted(visibility_timeout_ms=43_200_000) for _ in range(2)]
    for _ in job_ids:
        await scene.claimed(worker="silent")
    await beat(scene, "silent")
    assert await scene.reaper.run_once() == 0
    await value(scene.url, "UPDATE ferryman.workers SET beat_at = now() - interval '7 s' RETURNING 1")
    # A server that has just started does not count anybody as silent yet.
    await eventually(scene.reaper.run_once, lambda ended: ended == 2, within_s=15)
    assert sorted(await scene.offered()) == sorted(job_ids)
    assert await value(scene.url, "SELECT count(*) FROM ferryman.workers") == 0


async def beat(scene: Scene, worker: str) -> None:
    await scene.ledger.attempts.beat(
        Beat(
            worker_id=worker,
            pod="p",
            queues=[QUEUE],
            types=list(TYPES),
            slots=2,
            busy=2,
            state="running",
            held=[],
        )
    )


async def test_a_lost_push_is_found_by_the_sweep(scene: Scene) -> None:
    await scene.sweeper.run_once()
    job_id = await scene.submitted(pushed=False)
    scene.clock.seconds += 2
    assert await scene.sweeper.run_once() == 1
    assert await scene.offered() == [job_id]
    assert await scene.sweeper.run_once() == 0


async def test_a_sweep_leaves_alone_what_redis_holds(scene: Scene) -> None:
    for fields in ({}, {"run_in_ms": 3_600_000}):
        await scene.submitted(**fields)
    await scene.submitted()
    await scene.claimed()
    assert await scene.sweeper.run_once() == 0


async def test_a_job_hurried_in_the_ledger_alone_is_found_although_redis_holds_it_for_later(
    scene: Scene,
) -> None:
    job_id = await scene.submitted(run_in_ms=3_600_000)
    await scene.sweeper.run_once()
    hurry = "UPDATE ferryman.jobs SET run_at = now(), ready_since = now() WHERE id = $1 RETURNING 1"
    await value(scene.url, hurry, job_id)
    scene.clock.seconds += 2
    assert await scene.sweeper.run_once() == 1
    assert await scene.offered() == [job_id]


async def test_after_a_flush_everything_is_there_again_in_the_same_order(
    scene: Scene, redis_url: str
) -> None:
    low = [await scene.submitted() for _ in range(3)]
    urgent = await scene.submitted(priority=100)
    later = await scene.submitted(run_in_ms=3_600_000)
    taken = await scene.claimed()
    assert taken == urgent
    async with redis.Redis.from_url(redis_url) as client:
        await client.flushall()
    assert await scene.rebuilder.run_once() >= 5
    figures = await scene.dispatcher.figures(QUEUE, tenant_id=None)
    assert figures is not None
    assert (figures.pending, figures.scheduled, figures.running) == (3, 1, 1)
    assert await scene.offered() == low
    assert await scene.status(later) == "pending"


async def test_changed_settings_and_pauses_reach_redis(scene: Scene) -> None:
    await scene.submitted()
    await scene.ledger.queues.set_paused(QUEUE, True, USER)
    await scene.rebuilder.run_once()
    assert await scene.offered() == []


async def test_due_jobs_are_counted_as_ready_without_any_worker(scene: Scene) -> None:
    await scene.submitted(run_in_ms=20)
    promoter = Promoter(scene.ledger, scene.dispatcher)

    async def pending() -> int:
        await promoter.run_once()
        figures = await scene.dispatcher.figures(QUEUE, tenant_id=None)
        assert figures is not None
        return figures.pending

    assert await eventually(pending) == 1


async def test_jobs_past_their_expiry_end_and_leave_redis(scene: Scene) -> None:
    job_id = await scene.submitted(expires_in_ms=1)
    kept = await scene.submitted(expires_in_ms=60_000)
    expirer = Expirer(scene.ledger, scene.dispatcher)
    await eventually(expirer.run_once)
    assert await scene.status(job_id) == "expired"
    assert await scene.offered() == [kept]


async def test_partitions_may_be_made_again_and_again(scene: Scene) -> None:
    for _ in range(2):
        await Partitioner(scene.ledger).run_once()


async def test_one_maintainer_leads_and_another_follows_when_it_resigns(scene: Scene) -> None:
    first, second = (
        Maintainer(name, scene.ledger, scene.dispatcher, scene.clock, scene.metrics) for name in ("a", "b")
    )
    assert await first.run_once()
    assert not await second.run_once()
    stop = asyncio.Event()
    stop.set()
    await first.run(stop)
    assert await second.run_once()


async def test_a_loop_that_fails_takes_nobody_with_it(scene: Scene) -> None:
    maintainer = Maintainer("a", scene.ledger, scene.dispatcher, scene.clock, scene.metrics)
    job_id = await scene.submitted(expires_in_ms=1)
    await scene.dispatcher.close()  # every loop that needs Redis fails from here on

    async def expired() -> bool:
        assert await maintainer.run_once()
        return bool(await scene.status(job_id) == "expired")

    await eventually(expired)
