"""Progress and cursors on their way to the ledger: the last word of each attempt, a few times a second."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from ferryman.ports import AttemptStore, LedgerError, LedgerUnavailableError
from ferryman.telemetry import names
from ferryman.worker.context import Written

if TYPE_CHECKING:
    from ferryman.worker.attempt import Attempt

INTERVAL_S: Final = 0.2
AWAY_S: Final = 0.5

log = logging.getLogger(__name__)


class Pending:
    """What an attempt said and is not stored yet. `hurry`: somebody waits for it."""

    __slots__ = ("cursor", "dirty", "hurry", "note", "percent", "writer", "written_s")

    def __init__(self) -> None:
        self.percent: float | None = None
        self.note: str | None = None
        self.cursor: bytes | None = None
        self.dirty = False
        self.hurry = asyncio.Event()
        self.writer: asyncio.Task[None] | None = None
        self.written_s = -math.inf


class ProgressWriter:
    """Writes what attempts report, at most about five times a second each; the last word wins."""

    def __init__(
        self, attempts: AttemptStore, monotonic: Callable[[], float], on_lost: Callable[[Attempt], None]
    ) -> None:
        self._attempts = attempts
        self._monotonic = monotonic
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def report(self, attempt: Attempt, percent: float | None, note: str | None) -> Written:
        """Take progress from any thread."""
        pending = self._pending(attempt)
        if percent is not None:
            pending.percent = percent
        if note is not None:
            pending.note = note
        self._note(attempt, pending)
        return _Turn()

    def keep(self, attempt: Attempt, cursor: bytes) -> Written:
        """Take a cursor from any thread."""
        pending = self._pending(attempt)
        pending.cursor = cursor
        self._note(attempt, pending)
        return _Stored(self, attempt)

    async def finish(self, attempt: Attempt) -> None:
        """Return once everything the attempt said is stored, or its lease is lost."""
        pending = attempt.pending
        if pending is None:
            return
        while pending.dirty or pending.writer is not None:
            self._write_soon(attempt, pending)
            pending.hurry.set()
            if pending.writer is not None:
                # Shielded: a handler that is stopped while it waits must not stop the write for the others.
                await asyncio.shield(pending.writer)

    def _pending(self, attempt: Attempt) -> Pending:
        if attempt.pending is None:
            attempt.pending = Pending()
        return attempt.pending

    def _note(self, attempt: Attempt, pending: Pending) -> None:
        pending.dirty = True
        if threading.get_ident() == self._thread:
            self._write_soon(attempt, pending)
        elif pending.writer is None:
            self._loop.call_soon_threadsafe(self._write_soon, attempt, pending)

    def _write_soon(self, attempt: Attempt, pending: Pending) -> None:
        if pending.writer is None and pending.dirty:
            pending.writer = self._loop.create_task(self._write(attempt, pending))

    async def _write(self, attempt: Attempt, pending: Pending) -> None:
        try:
            while pending.dirty and not attempt.recorded:
                await self._wait_for_turn(pending)
                await self._write_once(attempt, pending)
        finally:
            pending.dirty = pending.dirty and not attempt.recorded
            pending.writer = None

    async def _wait_for_turn(self, pending: Pending) -> None:
        wait_s = pending.written_s + INTERVAL_S - self._monotonic()
        if wait_s > 0 and not pending.hurry.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(pending.hurry.wait(), wait_s)

    async def _write_once(self, attempt: Attempt, pending: Pending) -> None:
        claimed = attempt.claimed
        percent, note, cursor = pending.percent, pending.note, pending.cursor
        pending.dirty = False
        pending.hurry.clear()
        try:
            held = await self._attempts.report_progress(
                claimed.id, claimed.token, percent=percent, note=note, cursor=cursor
            )
        except LedgerUnavailableError:
            pending.dirty = True
            await asyncio.sleep(AWAY_S)
            return
        except LedgerError as error:
            log.warning(
                names.PROGRESS_REFUSED, extra={"job_id": str(claimed.id), "error": type(error).__name__}
            )
            return
        pending.written_s = self._monotonic()
        if not held:
            pending.dirty = False
            self._on_lost(attempt)


class _Turn:
    """Awaited, it lets the others run."""

    def __await__(self) -> Generator[Any, None, None]:
        yield


class _Stored:
    """Awaited, it returns once the cursor is stored."""

    def __init__(self, writer: ProgressWriter, attempt: Attempt) -> None:
        self._writer = writer
        self._attempt = attempt

    def __await__(self) -> Generator[Any, None, None]:
        return self._writer.finish(self._attempt).__await__()
