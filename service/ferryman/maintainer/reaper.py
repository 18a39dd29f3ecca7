"""Ends leases whose worker has gone silent, so that their jobs run again."""

from __future__ import annotations

import logging
from typing import Final

from ferryman import failpoints
from ferryman.core.job import Position
from ferryman.maintainer.periodic import Periodic
from ferryman.maintainer.steadiness import Steadiness
from ferryman.ports import Dispatcher, DispatcherUnavailableError, Ledger
from ferryman.telemetry import names
from ferryman.telemetry.metrics import Metrics

# A worker beats every 2 s at the latest; three beats missed, and it is lost.
WORKER_SILENCE_MS: Final = 6_000
BATCH: Final = 100

log = logging.getLogger(__name__)


class Reaper(Periodic):
    """Reaps by three signs: an overdue lease in the dispatcher, one in the ledger, a silent worker."""

    interval_s = 0.5

    def __init__(
        self, ledger: Ledger, dispatcher: Dispatcher, steadiness: Steadiness, metrics: Metrics
    ) -> None:
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._steadiness = steadiness
        self._metrics = metrics

    async def run_once(self) -> int:
        """One round over every queue and all workers. Answers how many leases were ended or corrected."""
        reaped = 0
        for queue in await self._ledger.queues.all():
            reaped += await self._reap_overdue(queue.name)
        upkeep = self._ledger.upkeep
        steady_ms = self._steadiness.ms
        reaped += await self._resync(await upkeep.reap_expired(steady_ms=steady_ms, limit=BATCH))
        if steady_ms >= WORKER_SILENCE_MS:
            lost = await upkeep.reap_lost_workers(silent_ms=WORKER_SILENCE_MS, limit=BATCH)
            reaped += await self._resync(lost)
        return reaped

    async def _reap_overdue(self, queue: str) -> int:
        try:
            overdue = await self._dispatcher.overdue(queue, limit=BATCH)
        except DispatcherUnavailableError:
            return 0  # the ledger's own leases and the workers' beats cover this
        if not overdue:
            return 0
        failpoints.reach("maintainer.after_overdue")
        return await self._resync(await self._ledger.upkeep.reap(overdue))

    async def _resync(self, positions: list[Position]) -> int:
        if not positions:
            return 0
        failpoints.reach("maintainer.after_reap")
        self._metrics.count(names.REAPED_TOTAL, len(positions))
        log.info(names.LEASES_REAPED, extra={"jobs": len(positions)})
        try:
            await self._dispatcher.push(positions)
        except DispatcherUnavailableError:
            log.warning(names.PUSH_FAILED, extra={"jobs": len(positions)})
        failpoints.reach("maintainer.after_resync")
        return len(positions)
