"""Whether a queue takes another job: asked of Redis, or of the ledger's count when Redis is away."""

from __future__ import annotations

import asyncio
from typing import Final

from msgspec import Struct

from ferryman.lifecycle.dispatching import DispatcherLink
from ferryman.ports import (
    Clock,
    Dice,
    Ledger,
    LedgerUnavailableError,
    QueueFigures,
    QueueFullError,
    QueueRecord,
)

_COUNT_SECONDS: Final = 1.0
_PATIENCE_SECONDS: Final = 4.0
_RETRY_AFTER_MS: Final = (1_000, 5_000)


class _Count(Struct):
    """How many waited when the ledger was asked, and how many were let in since."""

    waiting: int
    read_at: float
    added: int = 0


class Admission:
    """Keeps each queue at `maxSize` + `maxBacklog` waiting jobs."""

    def __init__(self, ledger: Ledger, link: DispatcherLink, clock: Clock, dice: Dice) -> None:
        self._ledger = ledger
        self._link = link
        self._clock = clock
        self._dice = dice
        self._counts: dict[str, _Count] = {}
        self._reading: dict[str, asyncio.Lock] = {}

    async def reserve(self, record: QueueRecord, places: int) -> int:
        """Let `places` jobs in, all or none; answers how many places the dispatcher now keeps for them, to
        be given back with their push. Raises QueueFullError.
        """
        granted = await self._link.call(
            lambda dispatcher: dispatcher.admit(record.name, places, limit=record.settings.max_waiting)
        )
        if granted is None:
            await self._ask_ledger(record, places)
            return 0
        if granted < places:
            await self._link.give_back(record.name, granted)
            raise self._full(record)
        return places

    async def _ask_ledger(self, record: QueueRecord, places: int) -> None:
        async with self._reading.setdefault(record.name, asyncio.Lock()):
            count = self._counts.get(record.name)
            if count is None or self._clock.monotonic() - count.read_at >= _COUNT_SECONDS:
                figures = await self._count(record.name)
                waiting = figures.pending + figures.scheduled + figures.retrying
                count = self._counts[record.name] = _Count(waiting, self._clock.monotonic())
            if count.waiting + count.added + places > record.settings.max_waiting:
                raise self._full(record)
            count.added += places

    async def _count(self, queue: str) -> QueueFigures:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return await self._ledger.reports.counts(queue, tenant_id=None)
        except TimeoutError:
            raise LedgerUnavailableError("the ledger did not answer in time") from None

    def _full(self, record: QueueRecord) -> QueueFullError:
        shortest, longest = _RETRY_AFTER_MS
        return QueueFullError(
            record.name,
            limit=record.settings.max_waiting,
            retry_after_ms=round(shortest + (longest - shortest) * self._dice()),
        )
