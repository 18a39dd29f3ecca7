"""Threads for sync handlers. Daemons, so that one that never returns cannot keep the process from ending."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import Any

Call = Callable[[], tuple[object, BaseException | None]]


class HandlerThreads:
    """Runs sync handlers, at most `limit` at once; a thread is started when none is idle."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._work: queue.SimpleQueue[tuple[Call, asyncio.Future[Any], asyncio.AbstractEventLoop] | None]
        self._work = queue.SimpleQueue()
        self._started = 0
        self._busy = 0

    async def run(
        self, function: Callable[..., Any], context: object, arguments: Mapping[str, Any]
    ) -> object:
        """What the function returns or raises. A cancelled caller still waits for the thread to end: its slot
        is not free before. It learns of the request by `ctx.cancelled`, and gets the CancelledError then.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[tuple[object, BaseException | None]] = loop.create_future()
        inherited = copy_context()

        def call() -> tuple[object, BaseException | None]:
            try:
                return inherited.run(function, context, **arguments), None
            except BaseException as error:
                return None, error

        self._busy += 1
        if self._busy > self._started and self._started < self._limit:
            self._started += 1
            threading.Thread(target=self._serve, name=f"handler-{self._started}", daemon=True).start()
        self._work.put((call, done, loop))
        return await self._outcome(done)

    async def _outcome(self, done: asyncio.Future[tuple[object, BaseException | None]]) -> object:
        cancelled: asyncio.CancelledError | None = None
        try:
            while not done.done():
                try:
                    await asyncio.shield(done)
                except asyncio.CancelledError as error:
                    cancelled = error
        finally:
            self._busy -= 1
        result, raised = done.result()
        if raised is not None:
            raise raised
        if cancelled is not None:
            raise cancelled
        return result

    def close(self) -> None:
        """Let idle threads end; busy ones end with their handler or with the process."""
        for _ in range(self._started):
            self._work.put(None)

    def _serve(self) -> None:
        while (item := self._work.get()) is not None:
            call, done, loop = item
            outcome = call()
            try:
                loop.call_soon_threadsafe(_settle, done, outcome)
            except RuntimeError:
                return  # the loop has closed: the process is ending
            del item, call, done, loop, outcome


def _settle(done: asyncio.Future[Any], outcome: tuple[object, BaseException | None]) -> None:
    if not done.done():
        done.set_result(outcome)
