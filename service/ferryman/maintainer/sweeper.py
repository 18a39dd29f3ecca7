"""Finds waiting jobs that the dispatcher does not hold: their push was lost, or Redis forgot them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from typing import Final

from ferryman import failpoints
from ferryman.core.job import Position
from ferryman.maintainer.periodic import Periodic
from ferryman.ports import Clock, Dispatcher, Ledger, QueueRecord
from ferryman.telemetry import names
from ferryman.telemetry.metrics import Metrics

PAGE: Final = 1_000
SWEEP_LIMIT: Final = 5_000
# Each sweep looks back over the one before, for rows that were committed late.
OVERLAP_MS: Final = 3_000
CROWDED_S: Final = 30.0

log = logging.getLogger(__name__)


class Sweeper(Periodic):
    """Every two seconds the jobs that became ready since the last sweep; every five minutes all of them."""

    interval_s = 2.0
    full_interval_s: Final = 300.0

    def __init__(self, ledger: Ledger, dispatcher: Dispatcher, clock: Clock, metrics: Metrics) -> None:
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._clock = clock
        self._metrics = metrics
        self._swept_at: dict[str, float] = {}
        self._swept_all_at: dict[str, float] = {}
        self._full_at: dict[str, float] = {}

    async def run_once(self) -> int:
        """Sweep every queue that the dispatcher knows. Answers how many jobs had to be pushed again."""
        found = 0
        for queue in await self._ledger.queues.all():
            if not await self._dispatcher.is_cold(queue.name):
                found += await self._sweep(queue.name)
        return found

    async def _sweep(self, queue: str) -> int:
        now = self._clock.monotonic()
        if now >= self._full_at.get(queue, 0):
            found = await self._sweep_all(queue)
            self._swept_all_at[queue] = now
            self._full_at[queue] = now + self.full_interval_s
        else:
            window_ms = round((now - self._swept_at[queue]) * 1000) + OVERLAP_MS
            ready = await self._ledger.upkeep.recently_ready(queue, within_ms=window_ms, limit=SWEEP_LIMIT)
            found = await self._heal(ready)
            if len(ready) == SWEEP_LIMIT:
                # More than one look can hold. All of them soon, but not with every sweep under a steady load.
                self._full_at[queue] = min(self._full_at[queue], self._swept_all_at[queue] + CROWDED_S)
        self._swept_at[queue] = now
        return found

    async def _sweep_all(self, queue: str) -> int:
        return sum([await self._heal(page) async for page in waiting_pages(self._ledger, queue)])

    async def _heal(self, positions: Sequence[Position]) -> int:
        missing = await self._dispatcher.missing([p for p in positions if p.kind == "waiting"])
        if not missing:
            return 0
        # Read again: between the two looks a worker may have claimed or ended some of them.
        await self._dispatcher.push(await self._ledger.jobs.positions([p.id for p in missing]))
        failpoints.reach("maintainer.after_sweep")
        self._metrics.count(names.RESYNCED_TOTAL, len(missing), by="sweep")
        log.info(names.JOBS_SWEPT, extra={"jobs": len(missing)})
        return len(missing)


class Rebuilder(Periodic):
    """Fills queues that the dispatcher lost (a flush, a new Redis) and brings changed settings to it."""

    interval_s = 1.0

    def __init__(self, ledger: Ledger, dispatcher: Dispatcher, metrics: Metrics) -> None:
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._configured: dict[str, int] = {}

    async def run_once(self) -> int:
        """Rebuild what is cold, configure what has changed. Answers how many jobs were copied."""
        copied = 0
        for record in await self._ledger.queues.all():
            if await self._dispatcher.is_cold(record.name):
                copied += await self._rebuild(record)
            elif self._configured.get(record.name) != record.version:
                await self._dispatcher.configure(record)
            self._configured[record.name] = record.version
        return copied

    async def _rebuild(self, record: QueueRecord) -> int:
        copied = await self._dispatcher.rebuild(record, waiting_pages(self._ledger, record.name))
        self._metrics.count(names.REBUILDS_TOTAL)
        log.info(names.DISPATCHER_REBUILT, extra={"queue": record.name, "jobs": copied})
        return copied


async def waiting_pages(ledger: Ledger, queue: str) -> AsyncIterator[Sequence[Position]]:
    """Every unfinished job of a queue, in id order, a page at a time."""
    after = None
    while page := await ledger.upkeep.waiting(queue, after=after, limit=PAGE):
        yield page
        failpoints.reach("maintainer.in_rebuild")
        after = page[-1].id
