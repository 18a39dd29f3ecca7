"""Suspects: jobs whose worker died twice while running them. Each runs alone, so that no neighbour pays."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ferryman.ports import AttemptStore, LedgerError
from ferryman.telemetry import names
from ferryman.worker.attempt import Attempt, Stop
from ferryman.worker.backoff import Backoff
from ferryman.worker.pulse import Pulse

log = logging.getLogger(__name__)


class Quarantine:
    """Holds suspects until everything else on the worker is done. While it holds any, nothing is claimed."""

    def __init__(
        self,
        attempts: AttemptStore,
        pulse: Pulse,
        *,
        others_are_done: Callable[[], bool],
        run: Callable[[Attempt], Awaitable[None]],
        give_up: Callable[[Attempt], Awaitable[None]],
    ) -> None:
        self._attempts = attempts
        self._pulse = pulse
        self._others_are_done = others_are_done
        self._run = run
        self._give_up = give_up
        self._turn = asyncio.Lock()
        self._suspects: set[Attempt] = set()
        self.waiting = 0

    @property
    def is_closed(self) -> bool:
        """Whether there is a suspect, waiting or running: claim nothing."""
        return bool(self._suspects)

    async def hold(self, attempt: Attempt) -> None:
        """Run the suspect alone when its turn comes; give it up if it is stopped before."""
        self._suspects.add(attempt)
        self.waiting += 1
        try:
            async with self._turn:
                alone = await self._gets_alone(attempt)
                self.waiting -= 1
                await (self._run(attempt) if alone else self._give_up(attempt))
        finally:
            self._suspects.discard(attempt)
            self._pulse.beat()

    async def _gets_alone(self, attempt: Attempt) -> bool:
        while attempt.stop is None:
            if self._others_are_done():
                return await self._isolate(attempt)
            await self._pulse.next()
        return False

    async def _isolate(self, attempt: Attempt) -> bool:
        """Have the ledger note that it runs alone, or a death would not condemn it."""
        backoff = Backoff(0.1, 1.0)
        while attempt.stop is None:
            try:
                if await self._attempts.isolate(attempt.claimed.id, attempt.claimed.token):
                    return True
                attempt.stop = Stop.LOST
            except LedgerError:
                log.debug(names.LEDGER_AWAY)
                await backoff.pause()
        return False
