"""The working parts of one worker, put together: claimer, executor, settler and heartbeat."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine, Mapping
from typing import Any, Final
from uuid import UUID

from msgspec import Struct

from ferryman.core.job import Claimed
from ferryman.ports import (
    Clock,
    Dice,
    Dispatcher,
    DispatcherUnavailableError,
    Ledger,
    LedgerError,
    OpenDispatcher,
    OpenLedger,
)
from ferryman.telemetry import names
from ferryman.telemetry.metrics import Metrics
from ferryman.worker.attempt import Attempt, Stop
from ferryman.worker.backoff import Backoff
from ferryman.worker.claimer import Claimer
from ferryman.worker.drain import Drain
from ferryman.worker.executor import FENCE_GRACE_S, Executor
from ferryman.worker.lease import Identity, LeaseKeeper, State
from ferryman.worker.offspring import Offspring
from ferryman.worker.pulse import Pulse
from ferryman.worker.queue_book import QueueBook
from ferryman.worker.redis_link import RedisLink
from ferryman.worker.registry import Handler
from ferryman.worker.releases import Releases
from ferryman.worker.settler import Settler

ZOMBIE_LIMIT: Final = 3
UNFLUSHED_LIMIT: Final = 1_000
FLUSH_GRACE_S: Final = 10.0
NO_QUEUE_VISIBILITY_MS: Final = 30_000

log = logging.getLogger(__name__)


class EvictingRedisError(Exception):
    """This Redis may drop what is entrusted to it."""

    def __init__(self, policy: object) -> None:
        super().__init__(
            f"Redis may evict jobs that wait: its maxmemory-policy is {policy}. "
            "Set it to noeviction (CONFIG SET maxmemory-policy noeviction)."
        )


class Outside(Struct, frozen=True, kw_only=True):
    """What a worker is given. `open_ledger` and `open_dispatcher` make those of the heartbeat."""

    ledger: Ledger
    dispatcher: Dispatcher
    open_ledger: OpenLedger
    open_dispatcher: OpenDispatcher
    clock: Clock
    dice: Dice
    metrics: Metrics


class Crew:
    """Claims, runs and settles until it is told to wind down."""

    def __init__(self, identity: Identity, outside: Outside, handlers: Mapping[str, Handler]) -> None:
        self.identity = identity
        self._outside = outside
        ledger, dispatcher = outside.ledger, outside.dispatcher
        monotonic, metrics = outside.clock.monotonic, outside.metrics
        self.pulse = Pulse()
        self.releases = Releases()
        self.book = QueueBook(ledger.queues, identity.queues)
        self.offspring = Offspring(self.book)
        self.settler = Settler(
            ledger.attempts, identity.worker_id, self.releases, metrics, on_flushed=self.pulse.beat
        )
        self.executor = Executor(
            handlers,
            ledger.attempts,
            self.settler,
            self.book,
            self.offspring,
            self.pulse,
            metrics,
            concurrency=identity.slots,
            clock=outside.clock,
            dice=outside.dice,
            claiming=lambda: self.claimer.in_flight,
            on_zombie=self._zombie_appeared,
        )
        self._link = RedisLink(dispatcher, self.pulse)
        self.claimer = Claimer(
            identity.worker_id,
            ledger,
            dispatcher,
            self._link,
            self.book,
            self.releases,
            self.pulse,
            metrics,
            types=identity.types,
            monotonic=monotonic,
            room=self._room,
            start=self._start,
        )
        self.drain = Drain(is_idle=lambda: self.executor.is_idle, on_change=self._state_changed)
        self.keeper = LeaseKeeper(
            identity,
            self,
            open_ledger=outside.open_ledger,
            open_dispatcher=outside.open_dispatcher,
            clock=outside.clock,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._is_exhausted = False
        metrics.gauge(names.SLOTS, lambda: identity.slots)
        metrics.gauge(names.BUSY, lambda: self.executor.busy)

    async def check_dispatcher(self) -> None:
        """Raises EvictingRedisError. A Redis that is away is not held against it."""
        try:
            seen = await self._outside.dispatcher.ping()
        except DispatcherUnavailableError:
            return
        if seen.get("evicting"):
            raise EvictingRedisError(seen.get("maxmemory_policy"))

    async def begin(self) -> None:
        """Return once the ledger knows the worker and the worker its queues, however long it takes."""
        self.keeper.start()
        await self.keeper.registered()
        backoff = Backoff(0.1, 2.0)
        while True:
            try:
                await self.book.refresh()
                break
            except LedgerError as error:
                log.warning(names.LEDGER_AWAY, extra={"error": str(error)})
                await backoff.pause()
        for queue in set(self.identity.queues) - set(self.book.known):
            log.warning(names.QUEUE_UNKNOWN, extra={"queue": queue})
        self._tasks = [self._task(self.settler.run()), self._task(self.book.keep_fresh())]

    async def cycle(self, *, may_end: bool) -> None:
        """One cycle, and the wait for a reason to begin the next. `may_end`: end where nothing is left."""
        go_on = await self.claimer.run_once()
        if go_on or self.is_done:
            return
        self._is_exhausted = may_end and self._has_nothing
        if not self._is_exhausted:
            await self.claimer.wait(lambda: self.is_done)

    @property
    def is_done(self) -> bool:
        """Whether the worker should end."""
        drain = self.drain
        worn_out = drain.is_worn_out and self.executor.is_idle
        return drain.is_stopping or worn_out or self._is_exhausted

    def announce(self, job_id: UUID) -> None:
        """A job was stored here: Redis is told where it belongs in the next cycle."""
        self.releases.doubt([job_id])
        self.pulse.beat()

    async def wind_down(self, grace_s: float) -> None:
        """Claim nothing more, give what runs its time, give back the rest, record everything, and leave."""
        self.drain.stop()
        await self.claimer.close()
        if not await self._idle_within(grace_s):
            self.executor.interrupt_all()
            await self._idle_within(FENCE_GRACE_S + FLUSH_GRACE_S)
        await self._release_all()
        await self.keeper.stop()
        await self._leave()
        await self._link.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.executor.close()

    # ---------------------------------------------------------------------- as the heartbeat watches it

    @property
    def state(self) -> State:
        return self.drain.state

    @property
    def busy(self) -> int:
        return self.executor.busy

    @property
    def shortest_visibility_ms(self) -> int:
        return min((self.book.lease_ms(queue) for queue in self.book.known), default=NO_QUEUE_VISIBILITY_MS)

    def held(self) -> Collection[Attempt]:
        return list(self.executor.held.values())

    def stop(self, attempt: Attempt, reason: Stop) -> None:
        self.executor.stop(attempt, reason)

    def asked_to_drain(self, asked: bool) -> None:
        self.drain.ask(asked)

    # ---------------------------------------------------------------------------------------- its inside

    def _room(self) -> int:
        """Slots that may be filled: none while the worker drains, while a suspect is here, or while the
        ledger does not take what was done.
        """
        executor = self.executor
        if not self.drain.may_claim or executor.quarantine.is_closed:
            return 0
        if self.settler.unflushed >= UNFLUSHED_LIMIT:
            return 0
        return self.identity.slots - executor.busy

    def _zombie_appeared(self) -> None:
        if self.executor.zombies >= min(ZOMBIE_LIMIT, self.identity.slots):
            self.drain.wear_out()

    def _start(self, claimed: Claimed) -> None:
        self.executor.start(claimed)
        if claimed.visibility_timeout_ms < self.book.lease_ms(claimed.queue):
            self.keeper.hurry()  # its lease in Redis is not its own yet, and the next beat may be late for it

    def _state_changed(self) -> None:
        log.info(names.DRAIN_CHANGED, extra={"state": self.drain.state})
        self.keeper.hurry()
        self.pulse.beat()

    @property
    def _has_nothing(self) -> bool:
        return self.executor.is_idle and not (
            self.claimer.in_flight or self.releases.has_any or self.releases.has_doubts
        )

    async def _idle_within(self, seconds: float) -> bool:
        async def idle() -> None:
            while not self.executor.is_idle:
                await self.pulse.next()

        try:
            await asyncio.wait_for(idle(), seconds)
        except TimeoutError:
            return False
        return True

    async def _release_all(self) -> None:
        while self.releases.has_any and not self._link.is_away:
            await self.claimer.run_once()

    async def _leave(self) -> None:
        try:
            await self._outside.ledger.attempts.leave(self.identity.worker_id)
        except LedgerError as error:
            log.warning(names.LEDGER_AWAY, extra={"error": str(error)})  # its silence tells the maintainer

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)
