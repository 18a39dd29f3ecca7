"""Two APIs, three workers, a Redis and a PostgreSQL, each killed again and again under load: nothing is lost,
nothing is stuck, nothing ends twice, and the books agree. Prints its counts.
"""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import aiohttp
import asyncpg

from tests.chaos.check import stuck, violations
from tests.chaos.load import Load
from tests.chaos.nemesis import Nemesis
from tests.support.stack import Api, Stack, call, running_stack, until_ready
from tests.support.waiting import eventually

VISIBILITY_MS = 2_000
# The longest visibility timeout and ten seconds, on top of what the backlog itself takes to drain.
DRAINED_WITHIN_S = 120


async def make_queue(session: aiohttp.ClientSession, stack: Stack, api: Api) -> None:
    settings = {
        "visibilityTimeoutMs": VISIBILITY_MS,
        "maxSize": 1_000_000,
        "retry": {"maxRetries": 3, "initialDelayMs": 100, "maxDelayMs": 1_000},
    }
    url = f"{api.url}/api/queues/chaos"
    status, body = await call(session, "PUT", url, stack.token("platform"), json=settings)
    assert status == 201, body


async def test_nothing_is_lost_stuck_or_finished_twice(chaos_seconds: float, chaos_seed: int) -> None:
    print(f"\nseed {chaos_seed}, {chaos_seconds:g} s")
    dice = random.Random(chaos_seed)
    async with running_stack() as stack:
        apis = [stack.api(), stack.api()]
        async with aiohttp.ClientSession() as session:
            for api in apis:
                await until_ready(session, api)
            await make_queue(session, stack, apis[0])
        workers = [stack.worker("--queue", "chaos", "--concurrency", "20") for _ in range(3)]
        load, nemesis, stop = Load(stack, apis, dice), Nemesis(stack, apis, workers, dice), asyncio.Event()
        clients = asyncio.create_task(load.run(stop, clients=8))
        supervisor = asyncio.create_task(nemesis.supervise())
        await nemesis.rage(chaos_seconds)
        await nemesis.heal()
        stop.set()
        await clients
        ledger = await stack.connect()
        try:
            await the_books_agree(ledger, load, nemesis, stack)
        finally:
            supervisor.cancel()
            await ledger.close()


async def the_books_agree(
    ledger: asyncpg.Connection[Any], load: Load, nemesis: Nemesis, stack: Stack
) -> None:
    async def look() -> list[str]:
        return await stuck(ledger, "chaos")

    await eventually(look, lambda found: not found, within_s=DRAINED_WITHIN_S)
    counts = await ledger.fetch("SELECT status, count(*) FROM ferryman.jobs GROUP BY 1 ORDER BY 1")
    actions = await ledger.fetch("SELECT action, count(*) FROM ferryman.job_audit GROUP BY 1 ORDER BY 1")
    effects = [json.loads(line) for line in (stack.folder / "effects.jsonl").read_text().splitlines()]
    print(
        f"faults       {dict(nemesis.faults)}",
        f"answers      {dict(load.outcomes)}, slowest {load.slowest_s:.1f} s",
        f"acknowledged {len(load.acknowledged)}",
        f"jobs         {dict(map(tuple, counts))}",
        f"audit        {dict(map(tuple, actions))}",
        f"handlers     {sum(e['event'] == 'start' for e in effects)} starts",
        sep="\n",
    )
    assert await violations(ledger, load.acknowledged) == []
    assert load.outcomes["500"] == 0
    assert len(load.acknowledged) > 0
