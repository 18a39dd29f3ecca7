"""Natural batches: whoever flushes takes what has gathered, and repeats. No timers.

An idle system waits for nothing; a busy one shares statements and commits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from ferryman.ports import LedgerUnavailableError

In = TypeVar("In")
Out = TypeVar("Out")

# Waiting longer in the buffer is refused: with what a flush may take it stays below the five seconds in
# which a 503 must come (contract, section 10).
PATIENCE_SECONDS: Final = 2.0


class _Waiting(Generic[In, Out]):
    __slots__ = ("answer", "item", "since")

    def __init__(self, item: In, since: float, answer: asyncio.Future[Out]) -> None:
        self.item = item
        self.since = since
        self.answer = answer


class Batcher(Generic[In, Out]):
    """Gathers items for `flush`, which answers for each, in order, its result or its error.

    At most `lanes` flushes run at once with `max_batch` items each, and `max_waiting` items wait.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[In]], Awaitable[Sequence[Out | Exception]]],
        *,
        max_batch: int,
        max_waiting: int,
        lanes: int,
    ) -> None:
        self._flush = flush
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._lanes = lanes
        self._waiting: deque[_Waiting[In, Out]] = deque()
        self._running = 0
        self._flushers: set[asyncio.Task[None]] = set()

    async def submit(self, item: In) -> Out:
        """The answer for this item. Raises its error, or LedgerUnavailableError when too many wait."""
        if len(self._waiting) >= self._max_waiting:
            raise LedgerUnavailableError("too many submissions wait for the ledger")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Out] = loop.create_future()
        self._waiting.append(_Waiting(item, loop.time(), answer))
        if self._running < self._lanes:
            self._running += 1
            flusher = loop.create_task(self._run())
            self._flushers.add(flusher)
            flusher.add_done_callback(self._flushers.discard)
        return await answer

    async def drain(self) -> None:
        """Return when everything that was submitted has its answer."""
        while self._flushers:
            await asyncio.wait(self._flushers)

    async def _run(self) -> None:
        while batch := self._take():
            try:
                answers = await self._flush([waiting.item for waiting in batch])
            except Exception as error:  # whatever it is, every caller must hear of it
                answers = [error] * len(batch)
            for waiting, answer in zip(batch, answers, strict=True):
                _deliver(waiting.answer, answer)
        # In the same turn that found nothing: a done callback would come after the next submission.
        self._running -= 1

    def _take(self) -> list[_Waiting[In, Out]]:
        now = asyncio.get_running_loop().time()
        batch: list[_Waiting[In, Out]] = []
        while self._waiting and len(batch) < self._max_batch:
            waiting = self._waiting.popleft()
            if waiting.answer.done():  # its caller has gone: nothing is stored for nobody
                continue
            if now - waiting.since > PATIENCE_SECONDS:
                waiting.answer.set_exception(LedgerUnavailableError("the ledger is too slow"))
                continue
            batch.append(waiting)
        return batch


def _deliver(future: asyncio.Future[Out], answer: Out | Exception) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
