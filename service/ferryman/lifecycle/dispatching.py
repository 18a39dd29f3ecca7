"""The way to the dispatcher: pushes after COMMIT, in batches, and never in the way of an answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar
from uuid import UUID

from ferryman.core.job import Position
from ferryman.lifecycle.batching import Batcher
from ferryman.ports import Dispatcher, DispatcherUnavailableError
from ferryman.telemetry import names
from ferryman.telemetry.metrics import Metrics

T = TypeVar("T")

_PROBE_SECONDS: Final = 0.5
_BATCH: Final = 200
_NOBODY: Final = UUID(int=0)

log = logging.getLogger(__name__)


class DispatcherLink:
    """The dispatcher as long as it answers. Once a call failed, nobody waits for it: a task of its own asks
    until it is back. What was not pushed meanwhile, the sweep finds.
    """

    def __init__(self, dispatcher: Dispatcher, metrics: Metrics) -> None:
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._probe: asyncio.Task[None] | None = None
        self._pushers: dict[str, Batcher[tuple[Sequence[Position], int], None]] = {}

    @property
    def is_up(self) -> bool:
        """Whether the dispatcher answered when it was last asked."""
        return self._probe is None

    async def call(self, use: Callable[[Dispatcher], Awaitable[T]]) -> T | None:
        """The answer of one call, or None when the dispatcher is away."""
        if self._probe is not None:
            return None
        try:
            return await use(self._dispatcher)
        except DispatcherUnavailableError as error:
            self._lost(error)
            return None

    async def push(self, queue: str, positions: Sequence[Position], *, reserved: int = 0) -> None:
        """Say where these jobs of one queue belong, in one call with those of others. Never fails."""
        if self._probe is not None:
            return
        pusher = self._pushers.get(queue)
        if pusher is None:
            pusher = self._pushers[queue] = Batcher(self._push, at_most=_BATCH)
        await pusher.add((positions, reserved))

    async def give_back(self, queue: str, tenant_id: str, reserved: int) -> None:
        """Return admission places that no job came to take."""
        if reserved:
            nobody = Position(id=_NOBODY, queue=queue, tenant_id=tenant_id, kind="gone")
            await self.push(queue, [nobody], reserved=reserved)

    async def close(self) -> None:
        """Stop asking after a lost dispatcher."""
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.gather(self._probe, return_exceptions=True)

    async def _push(self, batch: list[tuple[Sequence[Position], int]]) -> list[None]:
        positions = [position for part, _ in batch for position in part]
        reserved = sum(count for _, count in batch)
        await self.call(lambda dispatcher: dispatcher.push(positions, reserved=reserved))
        return [None] * len(batch)

    def _lost(self, error: DispatcherUnavailableError) -> None:
        self._metrics.count(names.DISPATCHER_LOST_TOTAL)
        if self._probe is None:
            log.warning(names.DISPATCHER_AWAY, extra={"reason": str(error)})
            self._probe = asyncio.create_task(self._ask_until_back())

    async def _ask_until_back(self) -> None:
        while True:
            await asyncio.sleep(_PROBE_SECONDS)
            try:
                await self._dispatcher.ping()
            except DispatcherUnavailableError:
                continue
            log.info(names.DISPATCHER_BACK)
            self._probe = None
            return
