"""What time alone brings about: jobs fall due, jobs expire, a new day needs its partition."""

from __future__ import annotations

import logging
from typing import Final

from ferryman import failpoints
from ferryman.maintainer.periodic import Periodic
from ferryman.ports import Dispatcher, DispatcherUnavailableError, Ledger
from ferryman.telemetry import names

BATCH: Final = 500

log = logging.getLogger(__name__)


class Promoter(Periodic):
    """Moves due jobs to the ready ones where no worker does: an operator scales from zero by that count."""

    interval_s = 1.0

    def __init__(self, ledger: Ledger, dispatcher: Dispatcher) -> None:
        self._ledger = ledger
        self._dispatcher = dispatcher

    async def run_once(self) -> int:
        """One step without a claim for every queue. Answers how many queues there are."""
        queues = await self._ledger.queues.all()
        for queue in queues:
            lease_ms = queue.settings.visibility_timeout_ms
            await self._dispatcher.step(queue.name, ended=(), tokens=(), lease_ms=lease_ms)
        return len(queues)


class Expirer(Periodic):
    """Ends waiting jobs whose `expires_at` has passed."""

    interval_s = 1.0

    def __init__(self, ledger: Ledger, dispatcher: Dispatcher) -> None:
        self._ledger = ledger
        self._dispatcher = dispatcher

    async def run_once(self) -> int:
        """One batch. Answers how many jobs expired."""
        expired = await self._ledger.upkeep.expire(limit=BATCH)
        if not expired:
            return 0
        failpoints.reach("maintainer.after_expire")
        log.info(names.JOBS_EXPIRED, extra={"jobs": len(expired)})
        try:
            await self._dispatcher.push(expired)
        except DispatcherUnavailableError:
            log.warning(names.PUSH_FAILED, extra={"jobs": len(expired)})
        return len(expired)


class Partitioner(Periodic):
    """Makes the audit's day partitions ahead of time."""

    interval_s = 3_600.0

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def run_once(self) -> int:
        """Answers 0: there is nothing to count."""
        await self._ledger.upkeep.make_partitions()
        return 0
