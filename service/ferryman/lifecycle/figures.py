"""The figures of a queue: what waits and runs, who works on it, and what went through it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from msgspec import Struct

from ferryman.auth.policy import Call
from ferryman.core.queues import is_system
from ferryman.lifecycle.asker import Asker
from ferryman.lifecycle.dispatching import DispatcherLink
from ferryman.lifecycle.failures import TooManyWaitsError, not_found
from ferryman.ports import Clock, Ledger, LedgerFigures, QueueFigures, QueueRecord

HORIZONS_MS: Final = (1_000, 5_000, 15_000, 30_000, 60_000, 300_000, 900_000, 3_600_000)
_LOOK_SECONDS: Final = 0.2
_MAX_HELD: Final = 200


class QueueStatus(Struct, frozen=True, kw_only=True):
    """One queue at one instant. Durations in milliseconds; `source` says who counted what waits."""

    record: QueueRecord
    counts: QueueFigures
    ledger: LedgerFigures
    source: Literal["redis", "ledger"]
    busy: int

    @property
    def waiting(self) -> int:
        """Pending, scheduled and retrying jobs."""
        return self.counts.pending + self.counts.scheduled + self.counts.retrying

    @property
    def size(self) -> int:
        """The first `maxSize` of what waits."""
        return min(self.waiting, self.record.settings.max_size)

    @property
    def is_asleep(self) -> bool:
        """No work and no worker."""
        return self.waiting + self.counts.running == 0 and self.ledger.workers == 0


class Figures:
    """Counts of all tenants together or of the asker's alone, as the policy says."""

    def __init__(self, ledger: Ledger, link: DispatcherLink, clock: Clock) -> None:
        self._ledger = ledger
        self._link = link
        self._clock = clock
        self._held = 0
        self._closed = False
        self._looks: dict[tuple[str | None, str | None], asyncio.Task[Mapping[str, QueueStatus]]] = {}

    async def status(self, asker: Asker, queue: str | None, *, wait_ms: int = 0) -> Sequence[QueueStatus]:
        """Of one queue or of all by name. While a queue sleeps, the answer is held until one that slept gets
        work or a worker, or `wait_ms` are over. Raises NotFoundError, TooManyWaitsError.
        """
        tenant_id = asker.scope(Call.FIGURES_READ).tenant_id
        seen = await self._look(queue, tenant_id)
        sleeping = {name for name, status in seen.items() if status.is_asleep}
        if not wait_ms or not sleeping:
            return list(seen.values())
        if self._held >= _MAX_HELD:
            raise TooManyWaitsError("too many requests are held open already")
        self._held += 1
        try:
            ends_at = self._clock.monotonic() + wait_ms / 1_000
            while self._is_early(ends_at) and sleeping == _asleep(seen, sleeping):
                await asyncio.sleep(min(_LOOK_SECONDS, max(0.0, ends_at - self._clock.monotonic())))
                seen = await self._look(queue, tenant_id)
            return list(seen.values())
        finally:
            self._held -= 1

    async def of_tenant(self, queue: str, tenant_id: str) -> QueueStatus:
        """A tenant's share of one queue. Raises NotFoundError."""
        return (await self._look(queue, tenant_id))[queue]

    def close(self) -> None:
        """Let everyone go, and hold nobody any more."""
        self._closed = True

    def _is_early(self, ends_at: float) -> bool:
        return not self._closed and self._clock.monotonic() < ends_at

    async def _look(self, queue: str | None, tenant_id: str | None) -> Mapping[str, QueueStatus]:
        """The figures, read once for everyone who asks for the same at the same time."""
        key = (queue, tenant_id)
        look = self._looks.get(key)
        if look is None:
            look = self._looks[key] = asyncio.create_task(self._read(queue, tenant_id))
            look.add_done_callback(lambda _: self._looks.pop(key, None))
        return await asyncio.shield(look)

    async def _read(self, queue: str | None, tenant_id: str | None) -> Mapping[str, QueueStatus]:
        if queue is None:
            records = await self._ledger.queues.all()
        else:
            record = await self._ledger.queues.get(queue)
            records = [] if record is None else [record]
        if tenant_id is not None:
            records = [record for record in records if not is_system(record.name)]
        if queue is not None and not records:
            raise not_found("queue")
        return {record.name: await self._read_one(record, tenant_id) for record in records}

    async def _read_one(self, record: QueueRecord, tenant_id: str | None) -> QueueStatus:
        name = record.name
        ledger, counts = await asyncio.gather(
            self._ledger.reports.ledger_figures(name, tenant_id=tenant_id, horizons_ms=HORIZONS_MS),
            self._link.call(lambda dispatcher: dispatcher.figures(name, tenant_id=tenant_id)),
        )
        source: Literal["redis", "ledger"] = "redis"
        if counts is None:
            counts, source = await self._ledger.reports.counts(name, tenant_id=tenant_id), "ledger"
        # A tenant sees its own jobs in the slots: how busy the others keep them is none of its business.
        busy = ledger.busy if tenant_id is None else min(ledger.busy, counts.running)
        return QueueStatus(record=record, counts=counts, ledger=ledger, source=source, busy=busy)


def _asleep(seen: Mapping[str, QueueStatus], among: set[str]) -> set[str]:
    return {name for name in among if name in seen and seen[name].is_asleep}
