"""One timer for all running attempts: a timer each would cost as much as a short handler."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ferryman.worker.attempt import Attempt


class Deadlines:
    """Calls `on_due` for each running attempt once its `due` has come; it must move `due` on."""

    def __init__(
        self,
        running: Callable[[], Collection[Attempt]],
        on_due: Callable[[Attempt], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._running = running
        self._on_due = on_due
        self._monotonic = monotonic
        self._loop = asyncio.get_running_loop()
        self._armed_for = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, due: float) -> None:
        """Something is due then. Costs a comparison unless it is sooner than everything else."""
        if due < self._armed_for:
            self._arm(due)

    def fire(self) -> None:
        """Look at every running attempt, and wait for the next to fall due."""
        self._armed_for, self._timer = math.inf, None
        now = self._monotonic()
        for attempt in list(self._running()):
            if attempt.due <= now:
                self._on_due(attempt)
        self.watch(min((attempt.due for attempt in self._running()), default=math.inf))

    def close(self) -> None:
        """Fire no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = -math.inf

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = due
        self._timer = self._loop.call_later(max(0.0, due - self._monotonic()), self.fire)
