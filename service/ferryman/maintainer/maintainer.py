"""The maintainer: one of all API and worker processes leads, and runs the loops that heal."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from ferryman.maintainer.periodic import Periodic
from ferryman.maintainer.reaper import Reaper
from ferryman.maintainer.receiver import Receiver
from ferryman.maintainer.relay import Relay
from ferryman.maintainer.steadiness import Steadiness
from ferryman.maintainer.sweeper import Rebuilder, Sweeper
from ferryman.maintainer.timekeeping import Expirer, Partitioner, Promoter
from ferryman.ports import Clock, Dispatcher, DispatcherUnavailableError, Ledger, LedgerError
from ferryman.telemetry import names
from ferryman.telemetry.metrics import Metrics

ROLE: Final = "maintainer"
LEASE_MS: Final = 4_000
RENEW_S: Final = 1.0

log = logging.getLogger(__name__)


class Maintainer:
    """Runs the loops while it holds the lease row. Two at once would do no harm, only work twice."""

    def __init__(
        self, holder: str, ledger: Ledger, dispatcher: Dispatcher, clock: Clock, metrics: Metrics
    ) -> None:
        self._holder = holder
        self._ledger = ledger
        self._steadiness = Steadiness(clock)
        self._leads = False
        self._loops: Sequence[Periodic] = (
            Rebuilder(ledger, dispatcher, metrics),
            Reaper(ledger, dispatcher, self._steadiness, metrics),
            Promoter(ledger, dispatcher),
            Receiver(ledger, dispatcher, metrics),
            Sweeper(ledger, dispatcher, clock, metrics),
            Expirer(ledger, dispatcher),
            Relay(ledger, dispatcher, metrics),
            Partitioner(ledger),
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Take part until `stop` is set, then resign.

        Each loop has a task of its own, so that a long rebuild holds up neither the reaper nor the lease.
        """
        async with asyncio.TaskGroup() as loops:
            for loop in self._loops:
                loops.create_task(self._repeat(loop, stop))
            while not stop.is_set():
                await self._lead()
                await _pause(stop, RENEW_S)
        if self._leads:
            await self._resign()

    async def run_once(self) -> bool:
        """Try to lead and, leading, run every loop once, in order. Answers whether this process led."""
        if not await self._lead():
            return False
        for loop in self._loops:
            await self._step(loop)
        return True

    async def _repeat(self, loop: Periodic, stop: asyncio.Event) -> None:
        while not stop.is_set():
            if self._leads:
                await self._step(loop)
            await _pause(stop, loop.interval_s if self._leads else RENEW_S)

    async def _lead(self) -> bool:
        try:
            leads = await self._ledger.upkeep.lead(ROLE, self._holder, for_ms=LEASE_MS)
        except LedgerError:
            self._steadiness.broken()
            leads = False
        except Exception:
            log.exception(names.MAINTAINER_STEP_FAILED, extra={"loop": "lead"})
            leads = False
        if leads and not self._leads:
            log.info(names.MAINTAINER_LEADS, extra={"holder": self._holder})
        self._leads = leads
        return leads

    async def _step(self, loop: Periodic) -> None:
        try:
            await loop.run_once()
        except DispatcherUnavailableError:
            log.debug(names.DISPATCHER_AWAY, extra={"loop": loop.name})
        except LedgerError as error:
            self._steadiness.broken()
            log.warning(names.MAINTAINER_STEP_FAILED, extra={"loop": loop.name, "error": str(error)})
        except Exception:
            # A loop that fails must not take the others, the API or the worker with it.
            log.exception(names.MAINTAINER_STEP_FAILED, extra={"loop": loop.name})

    async def _resign(self) -> None:
        try:
            await self._ledger.upkeep.resign(ROLE, self._holder)
        except LedgerError:
            log.debug(names.LEDGER_AWAY)  # the lease ends by itself


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
