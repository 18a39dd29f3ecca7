"""Rebuilds: Redis gets its content from the ledger again, while everybody goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from ferryman.core.job import Position
from ferryman.dispatch import keys
from ferryman.dispatch.dispatcher import RedisDispatcher
from ferryman.ports import Ended
from tests.support.dispatching import (
    FAR_MS,
    claim,
    ended,
    gone,
    look,
    opened,
    pages,
    record,
    running,
    waiting,
    warm,
)


@pytest.fixture
async def dispatcher(redis_url: str) -> AsyncIterator[RedisDispatcher]:
    async with opened(redis_url) as opened_one:
        yield opened_one


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Any]:
    async with Redis.from_url(redis_url) as opened_one:
        yield opened_one


async def order(dispatcher: RedisDispatcher) -> list[object]:
    return [job_id for job_id, _ in (await claim(dispatcher, 1_000)).claimed]


async def test_a_new_queue_is_cold_until_it_was_filled(dispatcher: RedisDispatcher) -> None:
    assert await dispatcher.is_cold("q")
    assert await dispatcher.figures("q", tenant_id=None) is None
    await dispatcher.configure(record())
    await dispatcher.push([waiting()])
    step = await claim(dispatcher, 1)
    assert (step.cold, step.claimed) == (True, [])
    assert await dispatcher.is_cold("q")
    await warm(dispatcher)
    assert not await dispatcher.is_cold("q")


async def test_everything_is_there_again_after_a_flush(dispatcher: RedisDispatcher, client: Any) -> None:
    await warm(dispatcher)
    ready = [waiting(f"t{n % 3}", n, priority=n % 4) for n in range(250)]
    later = [waiting("t0", n, due_in_ms=FAR_MS, retrying=n % 2 == 0) for n in range(10)]
    busy = [running(waiting("t1"), uuid4()) for _ in range(5)]
    everything = [*ready, *later, *busy]
    await dispatcher.push(everything)
    before = await look(client)
    await client.flushall()
    copied = await dispatcher.rebuild(record(version=4), pages(everything[:130], everything[130:], []))
    assert copied == len(everything)
    after = await look(client)
    assert (after.ready, after.due, after.leases) == (before.ready, before.due, before.leases)
    assert (after.infl, after.counts, after.ring) == (before.infl, before.counts, before.ring)
    assert after.woken


async def test_scripts_that_the_server_forgot_are_sent_again(
    dispatcher: RedisDispatcher, client: Any
) -> None:
    await warm(dispatcher)
    await client.script_flush()
    job = waiting()
    await dispatcher.push([job])
    await client.script_flush()
    assert await order(dispatcher) == [job.id]


async def test_settings_come_with_it(dispatcher: RedisDispatcher, client: Any) -> None:
    jobs = [waiting(at_ms=n) for n in range(5)]
    await dispatcher.rebuild(record(tenant_max=2, version=7), pages(jobs))
    assert len(await order(dispatcher)) == 2
    await dispatcher.rebuild(record(paused=True, version=8), pages(jobs))
    assert (await claim(dispatcher, 5)).paused


async def test_what_no_page_named_is_dropped(dispatcher: RedisDispatcher, client: Any) -> None:
    await warm(dispatcher)
    kept = [waiting("a", n) for n in range(3)] + [waiting("b", due_in_ms=FAR_MS)]
    stale = [waiting(f"t{n % 5}", n) for n in range(300)]
    stale += [waiting("b", due_in_ms=FAR_MS, retrying=True) for _ in range(150)]
    await dispatcher.push(kept + stale)
    assert await dispatcher.rebuild(record(), pages(kept)) == 4
    seen = await look(client)
    assert {job_id for order in seen.ready.values() for job_id, _ in order} == {job.id for job in kept[:3]}
    assert set(seen.due) == {kept[3].id}
    assert seen.counts == {"ready:": 3, "ready:a": 3, "scheduled:": 1, "scheduled:b": 1}
    assert seen.ring == {"a"}


async def test_what_is_pushed_meanwhile_stays(dispatcher: RedisDispatcher, client: Any) -> None:
    await warm(dispatcher)
    before, during, late = waiting(at_ms=1), waiting(at_ms=2), waiting(at_ms=3, due_in_ms=FAR_MS)

    async def ledger() -> AsyncIterator[Sequence[Position]]:
        await dispatcher.push([during])
        yield [before]
        await dispatcher.push([late])

    await dispatcher.rebuild(record(), ledger())
    seen = await look(client)
    assert [job_id for job_id, _ in seen.ready["acme"]] == [before.id, during.id]
    assert set(seen.due) == {late.id}


async def test_a_page_that_has_grown_old_undoes_nothing(dispatcher: RedisDispatcher, client: Any) -> None:
    """Before the page was copied, one job was claimed, one went back to waiting, one was cancelled and one
    ran and ended.
    """
    await warm(dispatcher)
    over, claimed, back, cancelled = (waiting(at_ms=n) for n in range(4))
    old_token = uuid4()
    page = [over, claimed, running(back, old_token), cancelled]
    await dispatcher.push(page)

    async def ledger() -> AsyncIterator[Sequence[Position]]:
        first, second = await claim(dispatcher, 1), await claim(dispatcher, 1)
        assert [first.claimed[0][0], second.claimed[0][0]] == [over.id, claimed.id]
        await claim(dispatcher, 0, ended=ended(first))
        await dispatcher.push([back, gone(cancelled)])
        yield page

    await dispatcher.rebuild(record(), ledger())
    seen = await look(client)
    assert set(seen.leases) == {claimed.id}
    assert [job_id for job_id, _ in seen.ready["acme"]] == [back.id]
    assert seen.infl == {"acme": 1}


async def test_a_second_rebuild_takes_over(dispatcher: RedisDispatcher, client: Any) -> None:
    await warm(dispatcher)
    jobs = [waiting(at_ms=n) for n in range(4)]

    async def slow() -> AsyncIterator[Sequence[Position]]:
        yield jobs[:1]
        assert await dispatcher.rebuild(record(), pages(jobs)) == 4
        yield jobs[1:2]

    assert await dispatcher.rebuild(record(), slow()) == 1
    assert await order(dispatcher) == [job.id for job in jobs]


async def test_a_rebuild_that_is_over_drops_nothing(dispatcher: RedisDispatcher, client: Any) -> None:
    job = waiting()

    async def too_slow() -> AsyncIterator[Sequence[Position]]:
        yield [job]
        await client.delete(f"{keys.prefix('q')}:seen")

    await dispatcher.rebuild(record(), too_slow())
    assert await dispatcher.is_cold("q")
    assert await dispatcher.missing([job]) == []


async def test_a_flush_in_the_middle_leaves_the_queue_cold(dispatcher: RedisDispatcher, client: Any) -> None:
    async def flushed_in_between() -> AsyncIterator[Sequence[Position]]:
        yield [waiting()]
        await client.flushall()
        yield [waiting()]

    await dispatcher.rebuild(record(), flushed_in_between())
    assert await dispatcher.is_cold("q")
    await warm(dispatcher)
    assert not await client.exists(f"{keys.prefix('q')}:seen")


async def test_workers_and_submissions_go_on_while_it_runs(dispatcher: RedisDispatcher, client: Any) -> None:
    """Nothing is lost, nothing is claimed twice, and the books agree at the end."""
    await warm(dispatcher)
    ledger = {job.id: job for job in (waiting(f"t{n % 4}", n) for n in range(2_000))}
    await dispatcher.push(list(ledger.values()))
    claimed: list[object] = []
    is_over = asyncio.Event()

    async def submit() -> None:
        for n in range(40):
            fresh = [waiting(f"t{n % 4}", 5_000 + n * 10 + k) for k in range(10)]
            ledger.update({job.id: job for job in fresh})
            await dispatcher.push(fresh)

    async def work() -> None:
        claims: list[Ended] = []
        while not is_over.is_set():
            step = await claim(dispatcher, 10, ended=claims)
            claims = ended(step)
            for job_id, _ in step.claimed:
                claimed.append(job_id)
                del ledger[job_id]
        await claim(dispatcher, 0, ended=claims)

    async def copy() -> AsyncIterator[Sequence[Position]]:
        for first in sorted(ledger)[::100]:
            page = sorted(job_id for job_id in ledger if job_id >= first)[:100]
            yield [ledger[job_id] for job_id in page]

    worker = asyncio.create_task(work())
    submitting = asyncio.create_task(submit())
    for _ in range(3):
        await dispatcher.rebuild(record(), copy())
    await submitting
    is_over.set()
    await worker
    assert len(claimed) == len(set(claimed))
    seen = await look(client)
    assert {job_id for order in seen.ready.values() for job_id, _ in order} == set(ledger)
    assert (seen.leases, seen.infl) == ({}, {})
    assert seen.counts.get("ready:", 0) == len(ledger)
