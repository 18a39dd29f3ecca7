"""The way to the dispatcher: after COMMIT, and never in the way of an answer."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar
from uuid import UUID

from ferryman.core.job import Position
from ferryman.ports import Clock, Dispatcher, DispatcherUnavailableError
from ferryman.telemetry import names
from ferryman.telemetry.metrics import Metrics

T = TypeVar("T")

_QUIET_SECONDS: Final = 10.0
_NOBODY: Final = UUID(int=0)

log = logging.getLogger(__name__)


class DispatcherLink:
    """Calls that may fail: the ledger has decided by then, and what the dispatcher missed the sweep finds."""

    def __init__(self, dispatcher: Dispatcher, metrics: Metrics, clock: Clock) -> None:
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._clock = clock
        self._quiet_until = float("-inf")

    async def call(self, use: Callable[[Dispatcher], Awaitable[T]]) -> T | None:
        """The answer of one call, or None when the dispatcher is away."""
        try:
            return await use(self._dispatcher)
        except DispatcherUnavailableError as error:
            self._missed(error)
            return None

    async def push(self, positions: Sequence[Position], *, reserved: int = 0) -> None:
        """Say where these jobs of one queue belong, giving back the places that were kept for them."""
        try:
            await self._dispatcher.push(positions, reserved=reserved)
        except DispatcherUnavailableError as error:
            self._missed(error)

    async def give_back(self, queue: str, reserved: int) -> None:
        """Return admission places that no job came to take."""
        if reserved:
            nobody = Position(id=_NOBODY, queue=queue, tenant_id="", kind="gone")
            await self.push([nobody], reserved=reserved)

    def _missed(self, error: DispatcherUnavailableError) -> None:
        """Count it, and log it once in a while: every submission may come by here."""
        self._metrics.count(names.DISPATCHER_MISSED_TOTAL)
        now = self._clock.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + _QUIET_SECONDS
            log.warning(names.DISPATCHER_AWAY, extra={"reason": str(error)})
