"""What a waiting id costs in Redis."""

from __future__ import annotations

from redis.asyncio import Redis

from tests.support.dispatching import opened, waiting, warm

IDS = 100_000
BYTES_AN_ID = 200


async def test_a_waiting_id_takes_at_most_200_bytes(redis_url: str) -> None:
    async with opened(redis_url) as dispatcher, Redis.from_url(redis_url) as client:
        await warm(dispatcher)
        before = (await client.info("memory"))["used_memory_dataset"]
        await dispatcher.push([waiting(at_ms=n, priority=n % 10) for n in range(IDS)])
        grown = (await client.info("memory"))["used_memory_dataset"] - before
        counted = await client.memory_usage("fm:{q}:t:acme", samples=0)
    assert counted / IDS <= BYTES_AN_ID
    assert grown / IDS <= BYTES_AN_ID
