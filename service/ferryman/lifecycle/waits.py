"""Held requests for a job's end: one question a moment for all of them."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Final
from uuid import UUID

from ferryman.core.job import Job
from ferryman.core.status import is_final
from ferryman.lifecycle.failures import TooManyWaitsError
from ferryman.ports import Ledger, LedgerError
from ferryman.telemetry import names

LOOK_SECONDS: Final = 0.1
MAX_PER_TENANT: Final = 500
_MAX_IDS: Final = 1_000

log = logging.getLogger(__name__)


class Waits:
    """Wakes whoever waits for a job that has ended, by reading the statuses of all awaited jobs at once."""

    def __init__(self, ledger: Ledger, *, look_seconds: float = LOOK_SECONDS) -> None:
        self._ledger = ledger
        self._look_seconds = look_seconds
        self._awaited: dict[UUID, set[asyncio.Future[None]]] = {}
        self._held: Counter[str] = Counter()
        self._watch: asyncio.Task[None] | None = None
        self._closed = False

    async def until_final(self, job: Job, *, at_most_ms: int) -> None:
        """Return when the job has ended, or has gone, or the time is over. Raises TooManyWaitsError."""
        if is_final(job.status) or at_most_ms <= 0 or self._closed:
            return
        if self._held[job.tenant_id] >= MAX_PER_TENANT:
            raise TooManyWaitsError(f"a tenant holds at most {MAX_PER_TENANT} requests open")
        ended = asyncio.get_running_loop().create_future()
        self._held[job.tenant_id] += 1
        self._awaited.setdefault(job.id, set()).add(ended)
        if self._watch is None:
            self._watch = asyncio.create_task(self._look_until_idle())
        try:
            await asyncio.wait([ended], timeout=at_most_ms / 1_000)
        finally:
            self._forget(job, ended)

    async def look(self) -> None:
        """Read the statuses of all awaited jobs once and wake who waits for those that have ended."""
        ids = list(self._awaited)
        for start in range(0, len(ids), _MAX_IDS):
            part = ids[start : start + _MAX_IDS]
            statuses = await self._ledger.jobs.statuses(part)
            for job_id in part:
                status = statuses.get(job_id)
                if status is None or is_final(status):
                    self._wake(job_id)

    async def close(self) -> None:
        """Let everyone go, and hold nobody any more."""
        self._closed = True
        for job_id in list(self._awaited):
            self._wake(job_id)
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)

    async def _look_until_idle(self) -> None:
        try:
            while self._awaited:
                await asyncio.sleep(self._look_seconds)
                try:
                    await self.look()
                except LedgerError as error:
                    log.debug(names.LEDGER_AWAY, extra={"reason": str(error)})
        finally:
            self._watch = None

    def _wake(self, job_id: UUID) -> None:
        for ended in self._awaited.get(job_id, ()):
            if not ended.done():
                ended.set_result(None)

    def _forget(self, job: Job, ended: asyncio.Future[None]) -> None:
        waiting = self._awaited.get(job.id)
        if waiting is not None:
            waiting.discard(ended)
            if not waiting:
                del self._awaited[job.id]
        self._held[job.tenant_id] -= 1
        if not self._held[job.tenant_id]:
            del self._held[job.tenant_id]
