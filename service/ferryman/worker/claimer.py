"""Fills the worker's slots: from Redis by one step a cycle, from the ledger while Redis cannot help."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from ferryman import failpoints
from ferryman.core.job import Claimed, Position
from ferryman.ports import (
    Dispatcher,
    DispatcherUnavailableError,
    Ledger,
    LedgerError,
    Step,
)
from ferryman.telemetry import names
from ferryman.telemetry.metrics import Metrics
from ferryman.worker.backoff import Backoff
from ferryman.worker.pulse import Pulse
from ferryman.worker.queue_book import QueueBook
from ferryman.worker.redis_link import RedisLink
from ferryman.worker.releases import Releases
from ferryman.worker.resync import where_doubtful

BATCH: Final = 100
# An idle worker is mostly woken for one job: fewer tokens are made and sent, and what is left comes next.
WOKEN_BATCH: Final = 8
CLAIMS_AT_ONCE: Final = 2
IDLE_S: Final = 1.0

log = logging.getLogger(__name__)


class Claimer:
    """One `run_once` is one cycle over all queues: release, claim, deliver. Then `wait` until there is reason
    for the next.
    """

    def __init__(
        self,
        worker_id: str,
        ledger: Ledger,
        dispatcher: Dispatcher,
        link: RedisLink,
        book: QueueBook,
        releases: Releases,
        pulse: Pulse,
        metrics: Metrics,
        *,
        types: Sequence[str],
        monotonic: Callable[[], float],
        room: Callable[[], int],
        start: Callable[[Claimed], None],
    ) -> None:
        self._worker_id = worker_id
        self._attempts = ledger.attempts
        self._dispatcher = dispatcher
        self._link = link
        self._book = book
        self._releases = releases
        self._jobs = ledger.jobs
        self._pulse = pulse
        self._metrics = metrics
        self._types = tuple(types)
        self._monotonic = monotonic
        self._room = room
        self._start = start
        self._loop = asyncio.get_running_loop()
        self._reserved = 0
        self._claims: set[asyncio.Task[None]] = set()
        self._released: list[Position] = []
        self._turn = 0
        self._next_look_s = 0.0
        self._ledger_pause = Backoff(0.1, 1.0)
        self._ledger_back_s = 0.0
        self._rang = False
        self._poll_pause = Backoff(0.05, 0.2)

    @property
    def in_flight(self) -> bool:
        """Whether claims are under way."""
        return self._reserved > 0

    @property
    def free(self) -> int:
        """Slots that may be filled now."""
        return 0 if self._is_ledger_away else max(0, self._room() - self._reserved)

    async def run_once(self) -> bool:
        """One cycle. Answers whether the next should follow at once."""
        hint = self._link.heard()
        self._next_look_s = self._monotonic() + IDLE_S
        go_on = False
        for queue in self._rotation(hint):
            go_on = await self._visit(queue, hinted=queue == hint) or go_on
        await self._deliver()
        return go_on

    async def wait(self, is_over: Callable[[], bool]) -> None:
        """Until there is something to release or to claim, or all is over; a second at most."""
        was_full = self.free == 0
        if not was_full and not self._link.is_away:
            self._link.listen(self._book.known)
        self._rang = False
        until_s = self._ledger_back_s if self._is_ledger_away else self._next_look_s
        timer = self._loop.call_later(max(0.0, until_s - self._monotonic()), self._ring)
        try:
            while not (self._rang or self._link.has_news or self._has_reason(was_full) or is_over()):
                await self._pulse.next()
        finally:
            timer.cancel()

    async def close(self) -> None:
        """Let the claims under way end."""
        while self._claims:
            await asyncio.wait(self._claims)

    def _has_reason(self, was_full: bool) -> bool:
        if was_full and self.free > 0:
            return True
        if self._link.is_away:
            return False
        if self._releases.has_doubts and not self._is_ledger_away:
            return True
        return self._releases.has_any and not self.in_flight  # else the next claim's step takes them along

    @property
    def _is_ledger_away(self) -> bool:
        return self._monotonic() < self._ledger_back_s

    def _ring(self) -> None:
        self._rang = True
        self._pulse.beat()

    def _rotation(self, hint: str | None) -> list[str]:
        """The queues, each cycle beginning with another one, so that none always gets the last slots."""
        queues = self._book.known
        deleted = [queue for queue in self._releases.queues() if queue not in queues]
        if not queues:
            return deleted
        self._turn += 1
        first = queues.index(hint) if hint in queues else self._turn % len(queues)
        return queues[first:] + queues[:first] + deleted

    async def _visit(self, queue: str, *, hinted: bool) -> bool:
        wanted = min(self.free, WOKEN_BATCH if hinted else BATCH) if self._book.knows(queue) else 0
        if self._link.is_away:
            return wanted > 0 and await self._claim_from_ledger(queue, wanted)
        if not (wanted or hinted or self._releases.has_ended(queue)):
            return False
        step = await self._step(queue, wanted)
        if step is None:
            return False
        if step.due_in_ms is not None:
            self._look_within(step.due_in_ms / 1_000)
        if step.claimed:
            await self._launch(queue, step.claimed)
        elif step.cold and wanted and not step.paused:
            return await self._claim_from_ledger(queue, wanted)
        return self._releases.has_ended(queue) or (bool(step.claimed) and step.more and self.free > 0)

    async def _step(self, queue: str, wanted: int) -> Step | None:
        """Release what ended and ask for ids; places for those that were found stay reserved."""
        ended = self._releases.take_ended(queue, BATCH)
        self._reserved += wanted
        claimed = 0
        try:
            step = await self._dispatcher.step(
                queue,
                ended=[claim for claim, _ in ended],
                tokens=fresh_tokens(wanted),
                lease_ms=self._book.lease_ms(queue),
                types=self._types,
            )
            claimed = len(step.claimed)
        except DispatcherUnavailableError:
            self._releases.put_back(queue, ended)
            self._link.lost()
            return None
        finally:
            self._reserved -= wanted - claimed
        failpoints.reach("worker.after_step")
        if ended:
            failpoints.reach("worker.after_release")
            self._released += [position for _, position in ended if position is not None]
        return step

    async def _launch(self, queue: str, pairs: Sequence[tuple[UUID, UUID]]) -> None:
        """Claim in the ledger while the next step goes on, a few statements at once."""
        while len(self._claims) >= CLAIMS_AT_ONCE:
            await asyncio.wait(self._claims, return_when=asyncio.FIRST_COMPLETED)
        task = self._loop.create_task(self._claim(queue, pairs))
        self._claims.add(task)
        task.add_done_callback(self._claims.discard)

    async def _claim(self, queue: str, pairs: Sequence[tuple[UUID, UUID]]) -> None:
        doubtful = {job_id for job_id, _ in pairs}
        try:
            claimed = await self._attempts.claim(self._worker_id, pairs, queue=queue, types=self._types)
            failpoints.reach("worker.after_claim")
            self._ledger_pause.reset()
            refused = doubtful - {job.id for job in claimed}
            doubtful.clear()
            if refused:
                self._metrics.count(names.REFUSED_CLAIMS_TOTAL, len(refused), queue=queue)
                self._releases.refuse(refused)
            self._take(queue, claimed)
        except Exception as error:
            self._releases.doubt(doubtful)
            self._ledger_failed(error)
        finally:
            self._reserved -= len(pairs)
            self._pulse.beat()

    async def _claim_from_ledger(self, queue: str, wanted: int) -> bool:
        self._reserved += wanted
        try:
            claimed = await self._attempts.claim_ready(
                self._worker_id, queue, fresh_tokens(wanted), types=self._types
            )
            failpoints.reach("worker.after_claim")
        except Exception as error:
            self._ledger_failed(error)
            return False
        finally:
            self._reserved -= wanted
        self._ledger_pause.reset()
        if not claimed:
            self._look_within(self._poll_pause.next_s())
            return False
        self._poll_pause.reset()
        self._metrics.count(names.LEDGER_CLAIMS_TOTAL, len(claimed), queue=queue)
        self._take(queue, claimed)
        self._look_within(0)
        return len(claimed) == wanted and self.free > 0

    def _take(self, queue: str, claimed: Sequence[Claimed]) -> None:
        self._metrics.count(names.CLAIMED_TOTAL, len(claimed), queue=queue)
        for job in claimed:
            self._start(job)

    def _ledger_failed(self, error: Exception) -> None:
        pause_s = self._ledger_pause.next_s()
        self._ledger_back_s = self._monotonic() + pause_s
        if isinstance(error, LedgerError):
            log.warning(names.LEDGER_AWAY, extra={"error": str(error), "again_in_s": pause_s})
        else:
            log.error(names.WORKER_CYCLE_FAILED, exc_info=error)

    def _look_within(self, seconds: float) -> None:
        self._next_look_s = min(self._next_look_s, self._monotonic() + seconds)

    async def _deliver(self) -> None:
        """Push what goes back to waiting and what is new, and put right what is in doubt."""
        if self._link.is_away:
            return
        positions, self._released = self._released, []
        positions += self._releases.take_positions(BATCH)
        if self._releases.has_doubts and not self._is_ledger_away:
            try:
                positions += await where_doubtful(
                    self._jobs, self._releases, self._metrics, types=self._types, most=BATCH
                )
            except LedgerError as error:
                self._ledger_failed(error)
        if not positions:
            return
        try:
            await self._dispatcher.push(positions)
        except DispatcherUnavailableError:
            log.warning(names.PUSH_FAILED, extra={"jobs": len(positions)})  # the sweep finds them
            self._link.lost()


def fresh_tokens(count: int) -> list[UUID]:
    """A new token for each slot that is to be filled."""
    randomness = os.urandom(16 * count)
    return [UUID(bytes=randomness[at : at + 16], version=4) for at in range(0, 16 * count, 16)]
