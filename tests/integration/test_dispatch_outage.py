"""Redis away: calls fail fast, say why without secrets, and work again as soon as it is back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from ferryman.dispatch.circuit import PAUSE_S
from ferryman.dispatch.dispatcher import RedisDispatcher
from ferryman.embedded import EmbeddedRedis
from ferryman.ports import DispatcherUnavailableError
from tests.support.dispatching import claim, opened, waiting, warm
from tests.support.servers import START_SECONDS, make_redis
from tests.support.waiting import eventually

TIMEOUT_S = 0.6
AT_ONCE_S = 0.3


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    own = make_redis()
    try:
        own.start(START_SECONDS)
        yield own
    finally:
        own.close()


@pytest.fixture
async def dispatcher(server: EmbeddedRedis) -> AsyncIterator[RedisDispatcher]:
    async with opened(server.url, timeout_s=TIMEOUT_S) as opened_one:
        await warm(opened_one)
        yield opened_one


async def seconds_to_fail(dispatcher: RedisDispatcher) -> float:
    started = time.monotonic()
    with pytest.raises(DispatcherUnavailableError):
        await dispatcher.push([waiting()])
    return time.monotonic() - started


async def works(dispatcher: RedisDispatcher) -> bool:
    try:
        await dispatcher.push([waiting()])
    except DispatcherUnavailableError:
        return False
    return True


async def test_a_frozen_server_costs_one_timeout_and_then_nothing(
    server: EmbeddedRedis, dispatcher: RedisDispatcher
) -> None:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        assert TIMEOUT_S * 0.9 <= await seconds_to_fail(dispatcher) <= TIMEOUT_S + 0.5
        for _ in range(20):
            assert await seconds_to_fail(dispatcher) < AT_ONCE_S
    finally:
        os.kill(server.pid, signal.SIGCONT)
    thawed = time.monotonic()
    assert await eventually(lambda: works(dispatcher), within_s=10)
    assert time.monotonic() - thawed < 2


async def test_while_one_call_tries_again_the_others_do_not_wait(
    server: EmbeddedRedis, dispatcher: RedisDispatcher
) -> None:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        await seconds_to_fail(dispatcher)
        failed_fast = 0
        until = time.monotonic() + PAUSE_S + TIMEOUT_S
        while time.monotonic() < until:
            seconds = await asyncio.gather(
                *(dispatcher.is_cold("q") for _ in range(3)),
                seconds_to_fail(dispatcher),
                return_exceptions=True,
            )
            failed_fast += isinstance(seconds[3], float) and seconds[3] < AT_ONCE_S
        assert failed_fast > 5
    finally:
        os.kill(server.pid, signal.SIGCONT)


async def test_many_callers_at_once_wait_for_one_timeout_only(
    server: EmbeddedRedis, dispatcher: RedisDispatcher
) -> None:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        answers = await asyncio.gather(*(dispatcher.is_cold("q") for _ in range(200)), return_exceptions=True)
        assert {type(answer).__base__ for answer in answers} == {DispatcherUnavailableError}
        assert time.monotonic() - started < TIMEOUT_S + 0.5
    finally:
        os.kill(server.pid, signal.SIGCONT)


async def test_a_dead_server_is_noticed_at_once(server: EmbeddedRedis, dispatcher: RedisDispatcher) -> None:
    server.kill()
    assert await seconds_to_fail(dispatcher) < TIMEOUT_S
    assert await seconds_to_fail(dispatcher) < AT_ONCE_S
    server.start(START_SECONDS)
    back = time.monotonic()
    assert await eventually(lambda: works(dispatcher), within_s=10)
    assert time.monotonic() - back < 2
    assert await dispatcher.is_cold("q")


async def test_a_restart_between_two_calls_is_not_even_noticed(
    server: EmbeddedRedis, dispatcher: RedisDispatcher
) -> None:
    server.kill()
    server.start(START_SECONDS)
    await dispatcher.push([waiting()])


async def test_a_wait_ends_when_the_server_does(server: EmbeddedRedis, dispatcher: RedisDispatcher) -> None:
    async with Redis.from_url(server.url) as client:
        waiter = asyncio.create_task(dispatcher.wait_for_work(["q"], at_most_ms=1_000))
        await eventually(lambda: client.info("clients"), lambda info: info["blocked_clients"] == 1)
    server.kill()
    with pytest.raises(DispatcherUnavailableError):
        await waiter
    started = time.monotonic()
    with pytest.raises(DispatcherUnavailableError):
        await dispatcher.wait_for_work(["q"], at_most_ms=1_000)
    assert time.monotonic() - started < AT_ONCE_S


async def test_a_wait_after_an_outage_holds_up_nobody(
    server: EmbeddedRedis, dispatcher: RedisDispatcher
) -> None:
    server.kill()
    await seconds_to_fail(dispatcher)
    server.start(START_SECONDS)

    async def blocked() -> int:
        async with Redis.from_url(server.url) as client:
            return int((await client.info("clients"))["blocked_clients"])

    async def wait() -> None:
        while True:
            with contextlib.suppress(DispatcherUnavailableError):
                await dispatcher.wait_for_work(["q"], at_most_ms=1_000)
            await asyncio.sleep(0)

    waiter = asyncio.create_task(wait())
    assert await eventually(blocked, within_s=10)
    await dispatcher.push([waiting()])
    waiter.cancel()
    await asyncio.wait([waiter])


async def test_a_replica_takes_no_writes_until_it_is_promoted(
    server: EmbeddedRedis, dispatcher: RedisDispatcher
) -> None:
    async with Redis.from_url(server.url) as client:
        await client.replicaof("127.0.0.1", "1")
        with pytest.raises(DispatcherUnavailableError):
            await claim(dispatcher, 1)
        await client.replicaof("NO", "ONE")
    assert await eventually(lambda: works(dispatcher), within_s=10)


async def test_a_full_server_is_of_no_use_until_there_is_room(
    server: EmbeddedRedis, dispatcher: RedisDispatcher
) -> None:
    async with Redis.from_url(server.url) as client:
        await client.config_set("maxmemory", "1")
        with pytest.raises(DispatcherUnavailableError):
            await dispatcher.push([waiting()])
        await client.config_set("maxmemory", "0")
    assert await eventually(lambda: works(dispatcher), within_s=10)


async def test_one_broken_key_does_not_open_the_circuit(
    server: EmbeddedRedis, dispatcher: RedisDispatcher
) -> None:
    await warm(dispatcher, "other")
    async with Redis.from_url(server.url) as client:
        await client.delete("fm:{q}:meta")
        await client.set("fm:{q}:meta", "nonsense")
    with pytest.raises(DispatcherUnavailableError, match="WRONGTYPE"):
        await dispatcher.push([waiting()])
    await dispatcher.push([waiting(queue="other")])


async def test_a_wrong_password_is_an_outage_that_shows_none(server: EmbeddedRedis) -> None:
    wrong = "n0t-the-password"
    async with opened(server.url.replace(server.password, wrong)) as dispatcher:
        with pytest.raises(DispatcherUnavailableError) as caught:
            await dispatcher.ping()
    told = f"{caught.value} {caught.value.__cause__!r}"
    assert wrong not in told
    assert server.password not in told


async def test_ping_tells_version_and_policy(server: EmbeddedRedis, dispatcher: RedisDispatcher) -> None:
    answer = await dispatcher.ping()
    assert str(answer["version"])[0].isdigit()
    assert (answer["maxmemory_policy"], answer["evicting"]) == ("noeviction", False)
    assert isinstance(answer["used_memory"], int)
    async with Redis.from_url(server.url) as client:
        for policy, evicting in (("allkeys-lru", True), ("volatile-lru", False)):
            await client.config_set("maxmemory-policy", policy)
            answer = await dispatcher.ping()
            assert (answer["maxmemory_policy"], answer["evicting"]) == (policy, evicting)


async def test_ping_does_without_what_a_user_may_not_ask(server: EmbeddedRedis) -> None:
    async with Redis.from_url(server.url) as client:
        await client.execute_command(
            "ACL", "SETUSER", "modest", "on", ">pw", "~*", "+@all", "-info", "-config"
        )
    url = f"redis://modest:pw@127.0.0.1:{server.port}/0"
    async with opened(url) as dispatcher:
        assert await dispatcher.ping() == {
            "version": None,
            "maxmemory_policy": None,
            "used_memory": None,
            "evicting": False,
        }
        await warm(dispatcher)
