"""Batches that form by themselves: take what is buffered, one call, repeat. No timer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

I = TypeVar("I")  # noqa: E741 - items in
O = TypeVar("O")  # noqa: E741 - outcomes out


class Batcher(Generic[I, O]):
    """Gives single items to a call that takes many. While one call runs, the next batch gathers.

    `flush` answers one outcome an item, in order; when it raises, everyone in the batch gets the error.
    """

    def __init__(self, flush: Callable[[list[I]], Awaitable[Sequence[O]]], *, at_most: int) -> None:
        self._flush = flush
        self._at_most = at_most
        self._waiting: deque[tuple[I, asyncio.Future[O]]] = deque()
        self._runner: asyncio.Task[None] | None = None

    async def add(self, item: I) -> O:
        """The outcome of this item. Raises what `flush` raised."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[O] = loop.create_future()
        self._waiting.append((item, outcome))
        if self._runner is None:
            self._runner = loop.create_task(self._run())
        return await outcome

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._run_batch()
        finally:
            self._runner = None

    async def _run_batch(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._at_most))]
        try:
            outcomes = await self._flush([item for item, _ in batch])
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if not future.done():
                future.set_result(outcome)
