"""Makes what happened to tenants' jobs into deliveries to their endpoints."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from ferryman import failpoints
from ferryman.core.job import Position
from ferryman.maintainer.periodic import Periodic
from ferryman.ports import Dispatcher, DispatcherUnavailableError, Ledger
from ferryman.telemetry import names
from ferryman.telemetry.metrics import Metrics

# Steps without a pause while there is more to read: beyond these the other tenants' turn comes anyway.
STEPS: Final = 20

log = logging.getLogger(__name__)


class Relay(Periodic):
    """Reads on where the last step ended. While no tenant listens, one look at an empty index is all."""

    interval_s = 0.5

    def __init__(self, ledger: Ledger, dispatcher: Dispatcher, metrics: Metrics) -> None:
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._metrics = metrics

    async def run_once(self) -> int:
        """Some steps. Answers how many deliveries were made."""
        made = 0
        for _ in range(STEPS):
            relayed = await self._ledger.webhooks.relay()
            if not relayed.read:
                break
            if relayed.positions:
                made += len(relayed.positions)
                await self._push(relayed.positions)
        return made

    async def _push(self, positions: Sequence[Position]) -> None:
        failpoints.reach("maintainer.after_relay")
        self._metrics.count(names.RELAYED_TOTAL, len(positions))
        log.debug(names.EVENTS_RELAYED, extra={"jobs": len(positions)})
        try:
            await self._dispatcher.push(positions)
        except DispatcherUnavailableError:
            log.warning(names.PUSH_FAILED, extra={"jobs": len(positions)})
