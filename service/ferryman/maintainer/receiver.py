"""Pushes jobs that other applications stored inside their own transactions (`ferryman.enqueue`)."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from ferryman import failpoints
from ferryman.maintainer.periodic import Periodic
from ferryman.ports import Dispatcher, DispatcherUnavailableError, Ledger, LedgerError
from ferryman.telemetry import names
from ferryman.telemetry.metrics import Metrics

BATCH: Final = 500

log = logging.getLogger(__name__)


class Receiver(Periodic):
    """Every two seconds, for what nobody was told of; a process that hears of arrivals steps at once."""

    interval_s = 2.0

    def __init__(self, ledger: Ledger, dispatcher: Dispatcher, metrics: Metrics) -> None:
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._metrics = metrics

    async def run_once(self) -> int:
        """Push one batch. Answers how many jobs were in it."""
        positions = await self._ledger.upkeep.take_arrivals(limit=BATCH)
        if not positions:
            return 0
        failpoints.reach("maintainer.after_take")
        await self._dispatcher.push(positions)
        await self._ledger.upkeep.drop_arrivals([position.id for position in positions])
        self._metrics.count(names.ARRIVED_TOTAL, len(positions))
        log.debug(names.JOBS_ARRIVED, extra={"jobs": len(positions)})
        return len(positions)

    async def run_when_told(self, told: asyncio.Event, stop: asyncio.Event) -> None:
        """Step each time that `told` is set, until nothing is left, until `stop` is set.

        What fails here the leader's next step tries again. Who sets `stop` sets `told` after it.
        """
        while True:
            await told.wait()
            if stop.is_set():
                return
            told.clear()
            try:
                while await self.run_once() == BATCH:
                    pass
            except (DispatcherUnavailableError, LedgerError) as error:
                log.debug(names.PUSH_FAILED, extra={"reason": str(error)})
