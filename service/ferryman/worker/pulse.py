"""A signal that something changed on this worker: a slot is free, an end was recorded, a marker came."""

from __future__ import annotations

import asyncio


class Pulse:
    """Look, and if there is nothing to do, wait for the next beat. Between a look and `next` nothing may be
    awaited, or a beat could be missed.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: list[asyncio.Future[None]] = []

    def beat(self) -> None:
        """Something changed."""
        if self._waiting:
            for waiter in self._waiting:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiting.clear()

    async def next(self) -> None:
        """Return at the next beat."""
        waiter = self._loop.create_future()
        self._waiting.append(waiter)
        await waiter
