"""Admission: no more jobs wait than the queue allows, counted with the places kept for submissions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from ferryman.dispatch import keys
from ferryman.dispatch.dispatcher import PLACE_EXPIRES_S, RedisDispatcher
from ferryman.ports import DispatcherUnavailableError
from tests.support.dispatching import FAR_MS, claim, opened, waiting, warm

PLACES = f"{keys.prefix('q')}:resv"


@pytest.fixture
async def dispatcher(redis_url: str) -> AsyncIterator[RedisDispatcher]:
    async with opened(redis_url) as opened_one:
        await warm(opened_one)
        yield opened_one


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Any]:
    async with Redis.from_url(redis_url) as opened_one:
        yield opened_one


async def test_places_are_kept_until_the_job_comes(dispatcher: RedisDispatcher) -> None:
    assert await dispatcher.admit("q", 2, limit=3) == 2
    assert await dispatcher.admit("q", 2, limit=3) == 1
    assert await dispatcher.admit("q", 1, limit=3) == 0
    await dispatcher.push([waiting()], reserved=1)
    assert await dispatcher.admit("q", 1, limit=3) == 0
    assert await dispatcher.admit("q", 1, limit=4) == 1


async def test_ready_due_and_retrying_jobs_wait_but_running_ones_do_not(dispatcher: RedisDispatcher) -> None:
    await dispatcher.push(
        [waiting(), waiting(at_ms=1), waiting(due_in_ms=FAR_MS), waiting(due_in_ms=FAR_MS, retrying=True)]
    )
    assert await dispatcher.admit("q", 1, limit=4) == 0
    await claim(dispatcher, 2)
    assert await dispatcher.admit("q", 5, limit=4) == 2


async def test_places_may_be_given_back_without_a_job(dispatcher: RedisDispatcher, client: Any) -> None:
    assert await dispatcher.admit("q", 3, limit=3) == 3
    nobody = waiting(queue="q")
    await dispatcher.push([nobody], reserved=3)
    assert await client.hgetall(PLACES) == {}
    assert await dispatcher.admit("q", 3, limit=3) == 2


async def test_forgotten_places_expire(dispatcher: RedisDispatcher, client: Any) -> None:
    assert await dispatcher.admit("q", 3, limit=3) == 3
    ((second, places),) = (await client.hgetall(PLACES)).items()
    now, _ = await client.time()
    assert (int(places), PLACE_EXPIRES_S - 2 <= int(second) - now <= PLACE_EXPIRES_S) == (3, True)
    await client.delete(PLACES)
    await client.hset(PLACES, mapping={str(now - 1): 3})
    assert await dispatcher.admit("q", 2, limit=3) == 2
    assert str(now - 1).encode() not in await client.hgetall(PLACES)


async def test_the_places_that_expire_first_are_given_back_first(
    dispatcher: RedisDispatcher, client: Any
) -> None:
    now, _ = await client.time()
    sooner, later = str(now + 10), str(now + 20)
    await client.hset(PLACES, mapping={later: 4, sooner: 3})
    await dispatcher.push([waiting()], reserved=2)
    assert await client.hgetall(PLACES) == {sooner.encode(): b"1", later.encode(): b"4"}
    await dispatcher.push([waiting()], reserved=2)
    assert await client.hgetall(PLACES) == {later.encode(): b"3"}
    await dispatcher.push([waiting()], reserved=9)
    assert await client.hgetall(PLACES) == {}


async def test_concurrent_callers_share_the_last_places(dispatcher: RedisDispatcher) -> None:
    granted = await asyncio.gather(*(dispatcher.admit("q", 2, limit=25) for _ in range(20)))
    assert sum(granted) == 25
    assert sorted(granted) == [0] * 7 + [1] + [2] * 12


async def test_a_cold_queue_cannot_be_counted(dispatcher: RedisDispatcher, client: Any) -> None:
    await client.flushall()
    with pytest.raises(DispatcherUnavailableError):
        await dispatcher.admit("q", 1, limit=10)
    await dispatcher.push([waiting()])  # the circuit stays closed
