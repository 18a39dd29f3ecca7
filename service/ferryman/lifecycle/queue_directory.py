"""The queues' settings as submissions need them: fresh within two seconds, read by one question at a time."""

from __future__ import annotations

import asyncio
from typing import Final

from msgspec import Struct

from ferryman.core.queues import is_queue_name, is_system
from ferryman.ports import Clock, Ledger, LedgerUnavailableError, QueueRecord, UnknownQueueError

_FRESH_SECONDS: Final = 1.0
_STALE_SECONDS: Final = 2.0
_PATIENCE_SECONDS: Final = 4.0


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
        """The queue. Raises UnknownQueueError, LedgerUnavailableError.

        What is a little old is still answered while it is read again, so a busy queue waits for no reading.
        """
        entry = self._entries.get(name)
        if entry is not None:
            age = self._clock.monotonic() - entry.read_at
            if age >= _FRESH_SECONDS:
                reading = self._read(name)
            if age < _STALE_SECONDS:
                return entry.record
        elif is_queue_name(name) and not is_system(name):
            reading = self._read(name)
        else:
            raise UnknownQueueError(name)
        record = await asyncio.shield(reading)
        if record is None:
            raise UnknownQueueError(name)
        return record

    def forget(self, name: str) -> None:
        """The queue was changed here: read it again."""
        self._entries.pop(name, None)
        self._reading.pop(name, None)

    def _read(self, name: str) -> asyncio.Task[QueueRecord | None]:
        reading = self._reading.get(name)
        if reading is None:
            reading = self._reading[name] = asyncio.create_task(self._ask(name))
            reading.add_done_callback(_look_at)
        return reading

    async def _ask(self, name: str) -> QueueRecord | None:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                record = await self._ledger.queues.get(name)
            self._keep(name, record)
            return record
        except TimeoutError:
            raise LedgerUnavailableError("the ledger did not answer in time") from None
        finally:
            if self._reading.get(name) is asyncio.current_task():
                del self._reading[name]

    def _keep(self, name: str, record: QueueRecord | None) -> None:
        if self._reading.get(name) is not asyncio.current_task():
            return  # the queue was changed since this was asked
        if record is None:
            self._entries.pop(name, None)
        else:
            self._entries[name] = _Entry(record, self._clock.monotonic())


def _look_at(reading: asyncio.Task[QueueRecord | None]) -> None:
    """Nobody may be waiting for this reading: its failure is no surprise, and the next one asks again."""
    if not reading.cancelled():
        reading.exception()
