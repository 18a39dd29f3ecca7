"""Natural batching: while one call is under way, the next items gather, and then go together. No timers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Gathering(Generic[Item, Answer]):
    """Gives single items to a function that takes several and answers each, in order."""

    def __init__(
        self, flush: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]], *, at_most: int
    ) -> None:
        self._flush = flush
        self._at_most = at_most
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._flusher: asyncio.Task[None] | None = None

    async def add(self, item: Item) -> Answer:
        """The answer for this item. Raises what the call that took it raised."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush_all())
        return await answer

    async def _flush_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._at_most], self._waiting[self._at_most :]
                await self._flush_one(batch)
        finally:
            self._flusher = None
            for _, answer in self._waiting:
                answer.cancel()
            self._waiting.clear()

    async def _flush_one(self, batch: Sequence[tuple[Item, asyncio.Future[Answer]]]) -> None:
        answers = [answer for _, answer in batch]
        try:
            results = await self._flush([item for item, _ in batch])
        except Exception as error:
            for answer in answers:
                if not answer.done():
                    answer.set_exception(error)
        except BaseException:
            for answer in answers:
                answer.cancel()
            raise
        else:
            for answer, result in zip(answers, results, strict=True):
                if not answer.done():
                    answer.set_result(result)
