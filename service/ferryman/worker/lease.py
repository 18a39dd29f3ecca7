"""Heartbeats from a thread of their own: a handler that keeps the event loop busy must not lose its lease."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Final, Literal, Protocol
from uuid import UUID

from msgspec import Struct

from ferryman.core.job import Beat, BeatAnswer
from ferryman.ports import (
    Clock,
    Dispatcher,
    DispatcherUnavailableError,
    Ledger,
    LedgerError,
    OpenDispatcher,
    OpenLedger,
)
from ferryman.telemetry import names
from ferryman.worker.attempt import Attempt, Stop

INTERVAL_S: Final = 2.0
SHORTEST_S: Final = 0.02
AGAIN_S: Final = 0.5
JOIN_S: Final = 5.0

log = logging.getLogger(__name__)

State = Literal["running", "draining", "drained", "stopping"]


class Identity(Struct, frozen=True, kw_only=True):
    """What a worker's beat says of it beside its leases."""

    worker_id: str
    pod: str
    queues: list[str]
    types: list[str]
    slots: int


class Watched(Protocol):
    """The worker as the thread sees it: read without asking its event loop, which may be busy."""

    @property
    def state(self) -> State: ...

    @property
    def busy(self) -> int: ...

    @property
    def shortest_visibility_ms(self) -> int: ...

    def held(self) -> Collection[Attempt]: ...

    def stop(self, attempt: Attempt, reason: Stop) -> None:
        """Called in the worker's event loop: this attempt lost its lease, or was cancelled."""

    def asked_to_drain(self, asked: bool) -> None:
        """Called in the worker's event loop with each answer of the ledger."""


class LeaseKeeper:
    """Beats until it is stopped: to the ledger for the worker and its leases, to Redis for the leases."""

    def __init__(
        self,
        identity: Identity,
        watched: Watched,
        *,
        open_ledger: OpenLedger,
        open_dispatcher: OpenDispatcher,
        clock: Clock,
    ) -> None:
        self._identity = identity
        self._watched = watched
        self._open_ledger = open_ledger
        self._open_dispatcher = open_dispatcher
        self._clock = clock
        self._main = asyncio.get_running_loop()
        self._registered = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sleepers: list[asyncio.Event] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    async def registered(self) -> None:
        """Return once the ledger knows the worker: before that it must not claim."""
        await self._registered.wait()

    def hurry(self) -> None:
        """Beat at once: there is a lease that cannot wait, or news of the worker."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the thread has ended
                self._loop.call_soon_threadsafe(self._wake)

    async def stop(self) -> None:
        """Beat no more."""
        self._stopping = True
        self.hurry()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, JOIN_S)

    @property
    def interval_s(self) -> float:
        """A third of the shortest visibility timeout, two seconds at most."""
        held = self._held()
        shortest_ms = min(
            (attempt.claimed.visibility_timeout_ms for attempt in held),
            default=self._watched.shortest_visibility_ms,
        )
        shortest_ms = min(shortest_ms, self._watched.shortest_visibility_ms)
        return max(SHORTEST_S, min(INTERVAL_S, shortest_ms / 3_000))

    async def beat_ledger(self, ledger: Ledger) -> None:
        """One sign of life; the answer goes to the worker. Raises LedgerError."""
        held = {attempt.claimed.id: attempt for attempt in self._held()}
        identity = self._identity
        answer = await ledger.attempts.beat(
            Beat(
                worker_id=identity.worker_id,
                pod=identity.pod,
                queues=identity.queues,
                types=identity.types,
                slots=identity.slots,
                busy=self._watched.busy,
                state=self._watched.state,
                held=[(job_id, attempt.claimed.token) for job_id, attempt in held.items()],
            )
        )
        self._tell(self._hear, held, answer)

    async def beat_redis(self, dispatcher: Dispatcher) -> None:
        """Keep the leases in Redis. Raises DispatcherUnavailableError."""
        by_queue: dict[str, dict[UUID, Attempt]] = {}
        for attempt in self._held():
            by_queue.setdefault(attempt.claimed.queue, {})[attempt.claimed.id] = attempt
        for queue, held in by_queue.items():
            asked = await dispatcher.beat(queue, [_lease(attempt) for attempt in held.values()])
            if asked:
                self._tell(self._stop_all, [held[job_id] for job_id in asked if job_id in held])

    # ------------------------------------------------------------------------------------- in the thread

    def _run(self) -> None:
        asyncio.run(self._beat_for_ever())

    async def _beat_for_ever(self) -> None:
        self._loop = asyncio.get_running_loop()
        await asyncio.gather(self._keep_up(self._to_ledger), self._keep_up(self._to_redis))

    async def _keep_up(self, side: Callable[[], Awaitable[None]]) -> None:
        """Nothing that goes wrong on one side may end its beats, or those of the other."""
        while not self._stopping:
            try:
                await side()
            except Exception:
                log.exception(names.HEARTBEAT_FAILED)
                await asyncio.sleep(AGAIN_S)

    async def _to_ledger(self) -> None:
        async with self._open_ledger(connections=1) as ledger:
            await self._repeat(lambda: self.beat_ledger(ledger), "ledger")

    async def _to_redis(self) -> None:
        dispatcher = self._open_dispatcher()
        try:
            await self._repeat(lambda: self.beat_redis(dispatcher), "redis")
        finally:
            await dispatcher.close()

    async def _repeat(self, beat: Callable[[], Awaitable[None]], to: str) -> None:
        sooner = asyncio.Event()
        self._sleepers.append(sooner)
        is_away = False
        try:
            while not self._stopping:
                sooner.clear()
                wait_s = self.interval_s
                try:
                    await beat()
                    is_away = False
                except (LedgerError, DispatcherUnavailableError) as error:
                    wait_s = min(AGAIN_S, wait_s)
                    if not is_away:
                        log.warning(names.HEARTBEAT_FAILED, extra={"to": to, "error": str(error)})
                    is_away = True
                except Exception:
                    log.exception(names.HEARTBEAT_FAILED, extra={"to": to})
                with suppress(TimeoutError):
                    await asyncio.wait_for(sooner.wait(), wait_s)
        finally:
            self._sleepers.remove(sooner)

    def _held(self) -> list[Attempt]:
        """What is to be kept: no handler that hangs beyond its time, but an end that is not flushed."""
        now = self._clock.monotonic()
        return [a for a in self._watched.held() if a.closed or now <= a.beat_until]

    def _wake(self) -> None:
        for sleeper in self._sleepers:
            sleeper.set()

    # ------------------------------------------------------------------------- in the worker's event loop

    def _tell(self, hear: Callable[..., None], *news: object) -> None:
        with suppress(RuntimeError):  # the worker has ended
            self._main.call_soon_threadsafe(hear, *news)

    def _hear(self, held: dict[UUID, Attempt], answer: BeatAnswer) -> None:
        self._registered.set()
        for job_id in answer.lost & held.keys():
            self._watched.stop(held[job_id], Stop.LOST)
        self._stop_all([held[job_id] for job_id in answer.cancelled & held.keys()])
        self._watched.asked_to_drain(answer.drain)

    def _stop_all(self, attempts: Collection[Attempt]) -> None:
        for attempt in attempts:
            self._watched.stop(attempt, Stop.CANCELLED)


def _lease(attempt: Attempt) -> tuple[UUID, UUID, str, int]:
    claimed = attempt.claimed
    return claimed.id, claimed.token, claimed.tenant_id, claimed.visibility_timeout_ms
