"""Breaks a running stack: one fault after another, each kind in every round, in an order made by a seed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import redis.asyncio as redis

from tests.support.stack import Api, Process, Stack

# A worker is lost after six silent seconds; stopped for longer, it comes back to leases that others hold.
STOPPED_FOR_S = 9.0


class Nemesis:
    """Kills, stops and flushes; `faults` counts what it did."""

    def __init__(self, stack: Stack, apis: list[Api], workers: list[Process], dice: random.Random) -> None:
        self.stack = stack
        self.apis = apis
        self.workers = workers
        self.dice = dice
        self.faults: Counter[str] = Counter()

    async def rage(self, seconds: float) -> None:
        """Break things for so long, a fault every one to three seconds; every kind at least once."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        kinds = self._rounds()
        async with asyncio.TaskGroup() as faults:
            while loop.time() < end or len(self.faults) < len(self._kinds()):
                kind, fault = next(kinds)
                self.faults[kind] += 1
                faults.create_task(_run(fault))
                await asyncio.sleep(self.dice.uniform(1, 3))

    async def supervise(self) -> None:
        """Start again whatever ended, within a second, as an orchestrator does."""
        while True:
            for process in (*self.apis, *self.workers):
                if not process.alive:
                    process.start()
            await asyncio.sleep(self.dice.uniform(0, 1))

    async def heal(self) -> None:
        """The servers run again, and nobody is frozen."""
        await asyncio.to_thread(self.stack.postgres.start)
        await asyncio.to_thread(self.stack.redis.start)
        for process in (*self.apis, *self.workers):
            process.send(signal.SIGCONT)

    def _kinds(self) -> dict[str, Callable[[], Awaitable[None]]]:
        return {
            "worker killed": self._kill_worker,
            "worker killed again": self._kill_worker,
            "API killed": self._kill_api,
            "Redis flushed": self._flush,
            "Redis killed": self._kill_redis,
            "PostgreSQL stopped at once": self._stop_postgres,
            "worker stopped past its lease": self._freeze_worker,
            "worker told to stop": self._stop_worker,
        }

    def _rounds(self) -> Iterator[tuple[str, Callable[[], Awaitable[None]]]]:
        while True:
            kinds = list(self._kinds().items())
            self.dice.shuffle(kinds)
            yield from kinds

    async def _kill_worker(self) -> None:
        await asyncio.to_thread(self.dice.choice(self.workers).kill)

    async def _kill_api(self) -> None:
        await asyncio.to_thread(self.dice.choice(self.apis).kill)

    async def _stop_worker(self) -> None:
        self.dice.choice(self.workers).send(signal.SIGTERM)

    async def _freeze_worker(self) -> None:
        worker = self.dice.choice(self.workers)
        worker.send(signal.SIGSTOP)
        await asyncio.sleep(STOPPED_FOR_S)
        worker.send(signal.SIGCONT)

    async def _flush(self) -> None:
        async with redis.Redis.from_url(self.stack.redis.url) as client:
            await client.flushall()

    async def _kill_redis(self) -> None:
        await asyncio.to_thread(self.stack.redis.kill)
        await asyncio.sleep(self.dice.uniform(0.5, 3))
        await asyncio.to_thread(self.stack.redis.start)

    async def _stop_postgres(self) -> None:
        await asyncio.to_thread(self.stack.postgres.stop, "immediate")
        await asyncio.sleep(self.dice.uniform(0, 1))
        await asyncio.to_thread(self.stack.postgres.start)


async def _run(fault: Callable[[], Awaitable[None]]) -> None:
    # Where two faults meet, the second may find its victim gone already.
    with contextlib.suppress(redis.RedisError, OSError):
        await fault()
