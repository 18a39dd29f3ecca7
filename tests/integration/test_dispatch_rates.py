"""Buckets in Redis: the same rule as in core, in one call, and gone when they are full."""

import asyncio
import random
import time

import pytest
from redis.asyncio import Redis

from ferryman.core.rates import Toll, take
from ferryman.dispatch import keys, rates
from ferryman.dispatch.circuit import Circuit
from ferryman.dispatch.connections import open_client
from ferryman.dispatch.link import Link
from tests.support.dispatching import opened

START_US = 1_700_000_000_000_000


def toll(bucket: str = "b", *, cost: int = 1, per_second: float = 1, burst: int = 5) -> Toll:
    return Toll(bucket=bucket, cost=cost, per_second=per_second, burst=burst)


@pytest.mark.parametrize("seed", range(5))
async def test_the_script_is_the_rule_of_core(redis_url: str, seed: int) -> None:
    dice = random.Random(seed)
    client = open_client(redis_url, connections=2, timeout_s=2)
    link = Link(client, Circuit(time.monotonic), calls_at_once=2, timeout_s=2)
    full_at: dict[str, int] = {}
    pauses, started = 0, time.monotonic()
    for _ in range(300):
        # Never slower than real time, in which the buckets expire.
        pauses += dice.choice([0, 1, 1_000, 400_000, 3_000_000])
        now = START_US + pauses + int((time.monotonic() - started) * 1_000_000)
        groups = []
        for _ in range(dice.randint(1, 3)):
            names = dice.sample(["tenant ä:1", "b", "c"], dice.randint(1, 3))
            groups.append(
                [
                    toll(
                        f"{seed}:{name}",
                        cost=dice.randint(1, 4),
                        per_second=dice.choice([0.3, 1, 7, 999]),
                        burst=dice.randint(1, 6),
                    )
                    for name in names
                ]
            )
        expected = []
        for group in groups:
            standings, after = take(group, [full_at.get(one.bucket) for one in group], now)
            expected.append(standings)
            full_at.update(zip((one.bucket for one in group), after or (), strict=False))
        assert await rates.take(link, groups, now_us=now) == expected
    await link.close()


async def test_concurrent_callers_share_calls_and_get_no_more_than_there_is(redis_url: str) -> None:
    async with opened(redis_url) as one, opened(redis_url) as other:
        started = time.monotonic()
        wanted = [
            dispatcher.take([toll(per_second=5, burst=40)]) for dispatcher in (one, other) for _ in range(100)
        ]
        answers = await asyncio.gather(*wanted)
        seconds = time.monotonic() - started
    granted = sum(taken.allowed for (taken,) in answers)
    assert 40 <= granted <= 40 + 5 * seconds + 1


async def test_a_bucket_expires_when_it_is_full(redis_url: str) -> None:
    async with opened(redis_url) as dispatcher, Redis.from_url(redis_url) as client:
        await dispatcher.take([toll(per_second=2, burst=5)])
        assert 0 < await client.pttl(keys.rate("b")) <= 500
        await dispatcher.take([toll("slow", cost=100_000_000, per_second=1e-9, burst=100_000_000)])
        assert await client.pttl(keys.rate("slow")) > 0
