"""The queues' settings as submissions need them: fresh within two seconds, read by one question at a time."""

from __future__ import annotations

import asyncio
from typing import Final

from msgspec import Struct

from ferryman.core.queues import is_queue_name, is_system
from ferryman.ports import Clock, Ledger, QueueRecord, UnknownQueueError

_FRESH_SECONDS: Final = 1.0


class _Entry(Struct):
    record: QueueRecord
    read_at: float


class QueueDirectory:
    """Remembers existing queues only, so that names from outside cannot fill it. Nobody submits to those of
    the system, so it does not know them.
    """

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._reading: dict[str, asyncio.Task[QueueRecord | None]] = {}

    async def get(self, name: str) -> QueueRecord:
        """The queue. Raises UnknownQueueError, LedgerUnavailableError."""
        entry = self._entries.get(name)
        if entry is not None and self._clock.monotonic() - entry.read_at < _FRESH_SECONDS:
            return entry.record
        if not is_queue_name(name) or is_system(name):
            raise UnknownQueueError(name)
        record = await self._read(name)
        if record is None:
            raise UnknownQueueError(name)
        return record

    def forget(self, name: str) -> None:
        """The queue was changed here: read it again."""
        self._entries.pop(name, None)
        self._reading.pop(name, None)

    async def _read(self, name: str) -> QueueRecord | None:
        reading = self._reading.get(name)
        if reading is None:
            reading = self._reading[name] = asyncio.create_task(self._ask(name))
        return await asyncio.shield(reading)

    async def _ask(self, name: str) -> QueueRecord | None:
        try:
            record = await self._ledger.queues.get(name)
            if record is None:
                self._entries.pop(name, None)
            else:
                self._entries[name] = _Entry(record, self._clock.monotonic())
            return record
        finally:
            if self._reading.get(name) is asyncio.current_task():
                del self._reading[name]
