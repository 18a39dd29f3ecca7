"""Delays and wake-ups: nobody polls, and nothing that may run waits unseen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from ferryman.dispatch import keys
from ferryman.dispatch.dispatcher import RedisDispatcher
from ferryman.ports import QueueFigures, Step
from tests.support.dispatching import FAR_MS, claim, ended, opened, record, waiting, warm


@pytest.fixture
async def dispatcher(redis_url: str) -> AsyncIterator[RedisDispatcher]:
    async with opened(redis_url) as opened_one:
        await warm(opened_one)
        yield opened_one


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Any]:
    async with Redis.from_url(redis_url) as opened_one:
        yield opened_one


async def work(dispatcher: RedisDispatcher) -> Step:
    """Wait as a worker does until there is something to claim, and claim it."""
    async with asyncio.timeout(10):
        while True:
            step = await claim(dispatcher, 10)
            if step.claimed:
                return step
            await dispatcher.wait_for_work(["q"], at_most_ms=step.due_in_ms or 1_000)


async def blocked_pops(client: Any) -> int:
    return int((await client.info("clients"))["blocked_clients"])


async def until_blocked(client: Any, count: int = 1) -> None:
    """Redis tells nobody when a client begins to wait."""
    async with asyncio.timeout(10):
        while await blocked_pops(client) != count:
            await asyncio.sleep(0)


async def test_a_push_wakes_who_waits(dispatcher: RedisDispatcher, client: Any) -> None:
    await warm(dispatcher, "other")
    waiter = asyncio.create_task(dispatcher.wait_for_work(["q", "other"], at_most_ms=1_000))
    await until_blocked(client)
    await dispatcher.push([waiting(queue="other")])
    assert await waiter == "other"


async def test_nothing_wakes_nobody(dispatcher: RedisDispatcher) -> None:
    started = time.monotonic()
    assert await dispatcher.wait_for_work(["q"], at_most_ms=50) is None
    assert time.monotonic() - started >= 0.045


async def test_a_wait_is_bounded(dispatcher: RedisDispatcher) -> None:
    started = time.monotonic()
    assert await dispatcher.wait_for_work(["q"], at_most_ms=3_600_000) is None
    assert 0.9 <= time.monotonic() - started <= 5


async def test_work_that_is_left_wakes_the_next_worker(dispatcher: RedisDispatcher) -> None:
    await dispatcher.push([waiting(at_ms=n) for n in range(3)])
    for left in (2, 1):
        assert await dispatcher.wait_for_work(["q"], at_most_ms=1_000) == "q"
        assert (await claim(dispatcher, 1)).more == (left > 0)
    assert await dispatcher.wait_for_work(["q"], at_most_ms=1_000) == "q"
    assert not (await claim(dispatcher, 1)).more
    assert await dispatcher.wait_for_work(["q"], at_most_ms=10) is None


async def test_delayed_jobs_come_when_they_are_due(dispatcher: RedisDispatcher) -> None:
    sooner, soon, far = (waiting(at_ms=n, due_in_ms=due) for n, due in enumerate((20, 60, FAR_MS)))
    started = time.monotonic()
    await dispatcher.push([far, soon, sooner])
    first = await work(dispatcher)
    waited_ms = (time.monotonic() - started) * 1_000
    assert waited_ms >= 19  # Redis cuts its milliseconds off
    order = [job_id for job_id, _ in first.claimed]
    while len(order) < 2:
        order += [job_id for job_id, _ in (await work(dispatcher)).claimed]
    assert order == [sooner.id, soon.id]
    last = await claim(dispatcher, 1)
    assert last.due_in_ms is not None
    assert FAR_MS - 60_000 < last.due_in_ms <= FAR_MS


async def test_a_near_date_wakes_a_worker_to_learn_of_it(dispatcher: RedisDispatcher, client: Any) -> None:
    waiter = asyncio.create_task(dispatcher.wait_for_work(["q"], at_most_ms=1_000))
    await until_blocked(client)
    await dispatcher.push([waiting(due_in_ms=500)])
    assert await waiter == "q"
    step = await claim(dispatcher, 1)
    assert step.due_in_ms is not None
    assert 0 < step.due_in_ms <= 500
    assert not step.more


async def test_a_far_date_wakes_nobody(dispatcher: RedisDispatcher) -> None:
    await dispatcher.push([waiting(due_in_ms=FAR_MS)])
    assert await dispatcher.wait_for_work(["q"], at_most_ms=10) is None


async def test_a_job_that_is_hurried_or_put_off_is_in_one_place(dispatcher: RedisDispatcher) -> None:
    job = waiting(due_in_ms=FAR_MS)
    await dispatcher.push([job])
    await dispatcher.push([waiting(job_id=job.id)])
    assert await dispatcher.figures("q", tenant_id="acme") == QueueFigures(
        pending=1, scheduled=0, retrying=0, running=0
    )
    await dispatcher.push([waiting(job_id=job.id, due_in_ms=FAR_MS, retrying=True)])
    assert await dispatcher.figures("q", tenant_id="acme") == QueueFigures(
        pending=0, scheduled=0, retrying=1, running=0
    )


async def test_many_that_fall_due_together_all_come(dispatcher: RedisDispatcher) -> None:
    jobs = [waiting(f"t{n % 7}", n, due_in_ms=1) for n in range(450)]
    await dispatcher.push(jobs)
    claimed = 0
    while claimed < len(jobs):
        claimed += len((await work(dispatcher)).claimed)
    assert (await dispatcher.figures("q", tenant_id=None)) == QueueFigures(
        pending=0, scheduled=0, retrying=0, running=450
    )


async def test_a_paused_queue_still_counts_what_fell_due(dispatcher: RedisDispatcher) -> None:
    await dispatcher.configure(record(version=2, paused=True))
    await dispatcher.push([waiting(due_in_ms=1)])
    async with asyncio.timeout(10):
        while (figures := await dispatcher.figures("q", tenant_id=None)) and figures.pending == 0:
            assert figures.scheduled == 1
    assert figures == QueueFigures(pending=1, scheduled=0, retrying=0, running=0)


async def test_a_cancelled_wait_gives_the_marker_back(dispatcher: RedisDispatcher, client: Any) -> None:
    waiter = asyncio.create_task(dispatcher.wait_for_work(["q"], at_most_ms=1_000))
    await until_blocked(client)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    await dispatcher.push([waiting()])
    assert await dispatcher.wait_for_work(["q"], at_most_ms=1_000) == "q"


async def test_closing_waits_for_a_pop_whose_caller_left(redis_url: str, client: Any) -> None:
    async with opened(redis_url) as dispatcher:
        waiter = asyncio.create_task(dispatcher.wait_for_work(["q"], at_most_ms=300))
        await until_blocked(client)
        waiter.cancel()
        await asyncio.wait([waiter])
    assert await blocked_pops(client) == 0


async def test_several_may_wait_at_once(dispatcher: RedisDispatcher, client: Any) -> None:
    waiters = [asyncio.create_task(dispatcher.wait_for_work(["q"], at_most_ms=1_000)) for _ in range(3)]
    await until_blocked(client, 3)
    await dispatcher.push([waiting()])
    assert sorted(map(str, await asyncio.gather(*waiters))) == ["None", "None", "q"]


async def test_the_marker_is_one(dispatcher: RedisDispatcher, client: Any) -> None:
    for n in range(5):
        await dispatcher.push([waiting(at_ms=n)])
    assert await client.zcard(keys.wake("q")) == 1
    step = await claim(dispatcher, 3)
    await claim(dispatcher, 0, ended=ended(step))
    assert await client.zcard(keys.wake("q")) == 1
