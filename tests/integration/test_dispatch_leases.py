"""Leases: fenced releases, heartbeats, reaping, cancellation, and what Redis is asked about an id."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from msgspec import structs
from redis.asyncio import Redis

from ferryman.core.job import Position
from ferryman.dispatch import keys
from ferryman.dispatch.dispatcher import PUT_OFF_MS, RedisDispatcher
from ferryman.ports import Ended, QueueFigures
from tests.support.dispatching import (
    FAR_MS,
    LEASE_MS,
    claim,
    ended,
    gone,
    look,
    opened,
    running,
    waiting,
    warm,
)

EMPTY = QueueFigures(pending=0, scheduled=0, retrying=0, running=0)


@pytest.fixture
async def dispatcher(redis_url: str) -> AsyncIterator[RedisDispatcher]:
    async with opened(redis_url) as opened_one:
        await warm(opened_one)
        yield opened_one


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Any]:
    async with Redis.from_url(redis_url) as opened_one:
        yield opened_one


async def claimed(dispatcher: RedisDispatcher) -> tuple[Position, UUID]:
    """A job that is leased, and its token."""
    job = waiting()
    await dispatcher.push([job])
    ((job_id, token),) = (await claim(dispatcher, 1)).claimed
    assert job_id == job.id
    return job, token


async def lease_left_ms(client: Any, job: Position) -> float:
    seconds, microseconds = await client.time()
    ends_ms = await client.zscore(f"{keys.prefix('q')}:lease", job.id.bytes)
    now_ms: float = seconds * 1_000 + microseconds / 1_000
    return float(ends_ms) - now_ms


async def end_lease(client: Any, job: Position) -> None:
    """As if its visibility timeout had passed."""
    await client.zadd(f"{keys.prefix('q')}:lease", {job.id.bytes: 1}, xx=True)


async def test_a_claim_is_leased_for_as_long_as_asked(dispatcher: RedisDispatcher, client: Any) -> None:
    job, token = await claimed(dispatcher)
    assert LEASE_MS - 5_000 < await lease_left_ms(client, job) <= LEASE_MS
    assert (await look(client)).leases == {job.id: ("acme", token)}


async def test_more_than_a_hundred_in_one_cycle(dispatcher: RedisDispatcher) -> None:
    jobs = [waiting(at_ms=n) for n in range(230)]
    await dispatcher.push(jobs)
    first = await claim(dispatcher, 230)
    assert [job_id for job_id, _ in first.claimed] == [job.id for job in jobs]
    assert len({token for _, token in first.claimed}) == 230
    await claim(dispatcher, 0, ended=ended(first))
    assert await dispatcher.figures("q", tenant_id=None) == EMPTY


async def test_a_claim_is_released_under_its_own_token_only(dispatcher: RedisDispatcher, client: Any) -> None:
    job, token = await claimed(dispatcher)
    await claim(dispatcher, 0, ended=[Ended(job.id, 5, uuid4())])
    assert job.id in (await look(client)).leases
    await claim(dispatcher, 0, ended=[Ended(job.id, 5, token)])
    await claim(dispatcher, 0, ended=[Ended(job.id, 5, token)])
    assert await dispatcher.figures("q", tenant_id="acme") == EMPTY


async def test_a_lease_that_was_put_off_is_released_once(dispatcher: RedisDispatcher, client: Any) -> None:
    job, token = await claimed(dispatcher)
    await end_lease(client, job)
    assert await dispatcher.overdue("q", limit=10) == [(job.id, token)]
    assert PUT_OFF_MS - 2_000 < await lease_left_ms(client, job) <= PUT_OFF_MS
    assert await dispatcher.overdue("q", limit=10) == []
    await dispatcher.push([gone(job)])
    await claim(dispatcher, 0, ended=[Ended(job.id, 5, token)])
    assert (await look(client)).infl == {}


async def test_a_reaper_takes_no_more_than_it_wants(dispatcher: RedisDispatcher, client: Any) -> None:
    await dispatcher.push([waiting(at_ms=n) for n in range(5)])
    step = await claim(dispatcher, 5)
    for job_id, _ in step.claimed:
        await client.zadd(f"{keys.prefix('q')}:lease", {job_id.bytes: 1})
    named = await dispatcher.overdue("q", limit=3) + await dispatcher.overdue("q", limit=3)
    assert sorted(named) == sorted(step.claimed)


async def test_a_heartbeat_extends_its_own_lease(dispatcher: RedisDispatcher, client: Any) -> None:
    job, token = await claimed(dispatcher)
    assert await dispatcher.beat("q", [(job.id, uuid4(), "acme", 2 * LEASE_MS)]) == []
    assert await lease_left_ms(client, job) <= LEASE_MS
    assert await dispatcher.beat("q", [(job.id, token, "acme", 2 * LEASE_MS)]) == []
    assert await lease_left_ms(client, job) > LEASE_MS


async def test_a_heartbeat_makes_a_lost_lease_again(dispatcher: RedisDispatcher, client: Any) -> None:
    job, token = await claimed(dispatcher)
    await client.flushall()
    assert await dispatcher.beat("q", [(job.id, token, "acme", LEASE_MS)]) == []
    seen = await look(client)
    assert (seen.leases, seen.infl) == ({job.id: ("acme", token)}, {"acme": 1})


async def test_a_heartbeat_does_not_take_back_what_waits_again(
    dispatcher: RedisDispatcher, client: Any
) -> None:
    job, token = await claimed(dispatcher)
    await dispatcher.push([job])
    assert await dispatcher.beat("q", [(job.id, token, "acme", LEASE_MS)]) == []
    assert (await look(client)).leases == {}
    assert [job_id for job_id, _ in (await claim(dispatcher, 1)).claimed] == [job.id]


async def test_a_running_job_hears_that_it_should_stop(dispatcher: RedisDispatcher, client: Any) -> None:
    job, token = await claimed(dispatcher)
    other, other_token = await claimed(dispatcher)
    await dispatcher.ask_to_stop("q", job.id)
    held = [(job.id, token, "acme", LEASE_MS), (other.id, other_token, "acme", LEASE_MS)]
    assert await dispatcher.beat("q", held) == [job.id]
    await claim(dispatcher, 0, ended=[Ended(job.id, 1, token)])
    assert not await client.exists(f"{keys.prefix('q')}:cancel")


async def test_asking_a_job_to_stop_that_does_not_run_leaves_nothing(
    dispatcher: RedisDispatcher, client: Any
) -> None:
    await dispatcher.ask_to_stop("q", uuid4())
    assert not await client.exists(f"{keys.prefix('q')}:cancel")


async def test_the_ledger_names_another_holder(dispatcher: RedisDispatcher, client: Any) -> None:
    job, _ = await claimed(dispatcher)
    token = uuid4()
    await dispatcher.push([running(job, token)])
    seen = await look(client)
    assert (seen.leases, seen.infl) == ({job.id: ("acme", token)}, {"acme": 1})


async def test_what_is_gone_is_found_without_its_tenant(dispatcher: RedisDispatcher, client: Any) -> None:
    leased, _ = await claimed(dispatcher)
    due = waiting(due_in_ms=FAR_MS)
    await dispatcher.push([due])
    nobody = [Position(id=job.id, queue="q", tenant_id="", kind="gone") for job in (leased, due)]
    await dispatcher.push(nobody)
    assert await dispatcher.figures("q", tenant_id=None) == EMPTY


async def test_missing_names_what_redis_does_not_hold_as_the_ledger_does(dispatcher: RedisDispatcher) -> None:
    leased, _ = await claimed(dispatcher)
    ready, later, unknown = waiting(at_ms=1), waiting(at_ms=2, due_in_ms=FAR_MS), waiting(at_ms=3)
    await dispatcher.push([ready, later])
    hurried = waiting(at_ms=2, job_id=later.id)
    ended_meanwhile = gone(waiting())
    asked = [leased, ready, later, unknown, ended_meanwhile]
    assert await dispatcher.missing(asked) == [unknown]
    assert await dispatcher.missing([hurried]) == [hurried]
    other_queue = waiting(queue="other")
    assert await dispatcher.missing([ready, other_queue]) == [other_queue]


async def test_what_was_put_off_is_not_missing_while_the_ledger_calls_it_ready(
    dispatcher: RedisDispatcher,
) -> None:
    await warm(dispatcher)
    aside, put_off = waiting(at_ms=1), waiting(at_ms=2)
    await dispatcher.push(
        [
            structs.replace(aside, type="chat", put_off="by_type"),
            structs.replace(put_off, put_off="for_a_while", due_in_ms=FAR_MS),
        ]
    )
    assert await dispatcher.missing([aside, put_off]) == []
    snoozed = [structs.replace(job, due_in_ms=2 * FAR_MS) for job in (aside, put_off)]
    assert await dispatcher.missing(snoozed) == snoozed


async def test_figures_are_a_tenants_or_all(dispatcher: RedisDispatcher) -> None:
    await claimed(dispatcher)
    await dispatcher.push(
        [
            waiting("bolt"),
            waiting("bolt", due_in_ms=FAR_MS),
            waiting("acme", due_in_ms=FAR_MS, retrying=True),
            waiting("acme", due_in_ms=FAR_MS, retrying=True),
        ]
    )
    assert await dispatcher.figures("q", tenant_id=None) == QueueFigures(
        pending=1, scheduled=1, retrying=2, running=1
    )
    assert await dispatcher.figures("q", tenant_id="acme") == QueueFigures(
        pending=0, scheduled=0, retrying=2, running=1
    )
    assert await dispatcher.figures("q", tenant_id="nobody") == EMPTY


async def test_a_deleted_queue_leaves_no_key(dispatcher: RedisDispatcher, client: Any) -> None:
    await claimed(dispatcher)
    await dispatcher.push([waiting("bolt"), waiting("cork", due_in_ms=FAR_MS), waiting(queue="other")])
    assert await dispatcher.admit("q", 3, limit=100) == 3
    await dispatcher.forget_queue("q")
    assert [key async for key in client.scan_iter(match=f"{keys.prefix('q')}*")] == []
    assert await client.exists(f"{keys.prefix('other')}:t:acme")
