"""Whether Redis can help at the moment, and what a worker does when it can not: go on, and look again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from ferryman.ports import Dispatcher, DispatcherUnavailableError
from ferryman.telemetry import names
from ferryman.worker.pulse import Pulse

PROBE_S: Final = 0.5
LONGEST_WAIT_MS: Final = 1_000

log = logging.getLogger(__name__)


class RedisLink:
    """Waits for wake-ups and for the return of Redis, in one task, and beats the pulse for both.

    `has_news`: a wait is over, or Redis is back; `hint`: the queue that was woken. Whoever acts on them
    calls `heard`.
    """

    def __init__(self, dispatcher: Dispatcher, pulse: Pulse) -> None:
        self._dispatcher = dispatcher
        self._pulse = pulse
        self._task: asyncio.Task[None] | None = None
        self.is_away = False
        self.has_news = False
        self.hint: str | None = None

    def lost(self) -> None:
        """A call has failed: probe until one succeeds."""
        if not self.is_away:
            self.is_away = True
            log.warning(names.DISPATCHER_AWAY)
        if self._task is None:
            self._task = asyncio.create_task(self._probe())

    def listen(self, queues: Sequence[str]) -> None:
        """Wait for work once, unless that is already going on."""
        if self._task is None and queues:
            self._task = asyncio.create_task(self._wait(tuple(queues)))

    def heard(self) -> str | None:
        """The queue that was woken, if one was; the news are old from now on."""
        hint, self.hint, self.has_news = self.hint, None, False
        return hint

    async def close(self) -> None:
        """Listen no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _wait(self, queues: Sequence[str]) -> None:
        is_lost = False
        try:
            self.hint = await self._dispatcher.wait_for_work(queues, at_most_ms=LONGEST_WAIT_MS)
        except DispatcherUnavailableError:
            is_lost = True
        except Exception:
            log.exception(names.WORKER_CYCLE_FAILED)
            await asyncio.sleep(PROBE_S)
        self._task = None
        if is_lost or self.is_away:  # another call may have failed meanwhile
            self.lost()
        self._tell()

    async def _probe(self) -> None:
        while self.is_away:
            await asyncio.sleep(PROBE_S)
            try:
                await self._dispatcher.ping()
            except DispatcherUnavailableError:
                continue
            except Exception:
                log.exception(names.WORKER_CYCLE_FAILED)
                continue
            self.is_away = False
        log.info(names.DISPATCHER_BACK)
        self._task = None
        self._tell()

    def _tell(self) -> None:
        self.has_news = True
        self._pulse.beat()
