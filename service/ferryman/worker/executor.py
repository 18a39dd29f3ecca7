"""From a claimed job to its recorded end: by its handler, by a stop, or by a lost lease."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final
from uuid import UUID

from ferryman import failpoints
from ferryman.core.job import Claimed, Settlement
from ferryman.core.verdict import (
    CRASH_CAP,
    Complete,
    DeadLetter,
    Outcome,
    Reschedule,
    RetryAt,
    Succeeded,
    Verdict,
    decide,
)
from ferryman.ports import AttemptStore, Clock, Dice
from ferryman.telemetry import names
from ferryman.telemetry.metrics import Metrics
from ferryman.worker.attempt import Attempt, Stop
from ferryman.worker.context import JobContext
from ferryman.worker.deadlines import Deadlines
from ferryman.worker.offspring import Offspring
from ferryman.worker.progress import ProgressWriter
from ferryman.worker.pulse import Pulse
from ferryman.worker.quarantine import Quarantine
from ferryman.worker.queue_book import QueueBook
from ferryman.worker.registry import Handler
from ferryman.worker.results import document_of
from ferryman.worker.settler import Settler, outcome_of
from ferryman.worker.threads import HandlerThreads

# A handler that does not come back this long after it was told to stop is fenced: its end is recorded
# without it. Who cancels a job sees it end within two heartbeats (4 s), so there it is shorter.
FENCE_GRACE_S: Final = 5.0
CANCEL_GRACE_S: Final = 1.5

log = logging.getLogger(__name__)


class Executor:
    """Runs attempts. `held`: those whose leases must be kept; `running`: those whose handlers are not back
    yet, zombies among them. Both by claim token, for a zombie's job may be claimed again here.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        attempts: AttemptStore,
        settler: Settler,
        book: QueueBook,
        offspring: Offspring,
        pulse: Pulse,
        metrics: Metrics,
        *,
        concurrency: int,
        clock: Clock,
        dice: Dice,
        claiming: Callable[[], bool],
        on_zombie: Callable[[], None],
    ) -> None:
        self._handlers = handlers
        self._settler = settler
        self._book = book
        self._offspring = offspring
        self._pulse = pulse
        self._metrics = metrics
        self._clock = clock
        self._dice = dice
        self._claiming = claiming
        self._on_zombie = on_zombie
        self._loop = asyncio.get_running_loop()
        self.held: dict[UUID, Attempt] = {}
        self.running: dict[UUID, Attempt] = {}
        self.tasks: dict[UUID, asyncio.Task[Any]] = {}
        self.zombies = 0
        self._is_closed = False
        self.counts = {"complete": 0, "failed": 0, "retried": 0}
        self._others: set[asyncio.Task[Any]] = set()
        self._threads = HandlerThreads(concurrency)
        self._deadlines = Deadlines(self.running.values, self._on_due, clock.monotonic)
        self._progress = ProgressWriter(attempts, clock.monotonic, self.lose)
        self.quarantine = Quarantine(
            attempts,
            pulse,
            others_are_done=self._others_are_done,
            run=self._run_alone,
            give_up=self._give_up,
        )

    @property
    def busy(self) -> int:
        """Slots in use."""
        return len(self.running) + self.quarantine.waiting

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, waits to run alone, or is unrecorded. Zombies do not count: nobody waits."""
        return not self.held and len(self.running) <= self.zombies and not self._settler.unflushed

    def start(self, claimed: Claimed) -> None:
        """Run a claimed job. Its slot is taken until its handler comes back."""
        handler = self._handlers[claimed.type]
        policy, timeout_ms = self._book.policy(claimed, handler.settings)
        attempt = Attempt(claimed, handler, policy, timeout_ms, self._clock, self._progress)
        self.held[claimed.token] = attempt
        if claimed.crashes >= CRASH_CAP - 1:
            self._spawn(self.quarantine.hold(attempt))
        else:
            self.running[claimed.token] = attempt
            attempt.task = self.tasks[claimed.token] = self._loop.create_task(self.execute(attempt))

    async def execute(self, attempt: Attempt) -> None:
        """The whole of an attempt."""
        outcome = await self._run_handler(attempt)
        self._hand_back_slot(attempt)
        if not attempt.closed:
            await self._conclude(attempt, outcome)
        self.tasks.pop(attempt.claimed.token, None)

    def stop(self, attempt: Attempt, reason: Stop) -> None:
        """Tell an attempt to stop; whatever its handler does then, this is how it ends."""
        if attempt.closed or (attempt.stop is not None and reason is not Stop.LOST):
            return
        told_before, attempt.stop = attempt.stop is not None, reason
        if attempt.has_begun and not told_before:
            grace_s = CANCEL_GRACE_S if reason is Stop.CANCELLED else FENCE_GRACE_S
            attempt.due = self._clock.monotonic() + grace_s
            self._deadlines.watch(attempt.due)
            assert attempt.task is not None
            attempt.task.cancel()
        self._pulse.beat()

    def lose(self, attempt: Attempt) -> None:
        """Its lease is lost: somebody else may run the job by now, so there is nothing left to record."""
        self.stop(attempt, Stop.LOST)

    def interrupt_all(self) -> None:
        """The worker stops: everything that still runs goes back to the queue."""
        for attempt in list(self.held.values()):
            self.stop(attempt, Stop.INTERRUPTED)

    def close(self) -> None:
        """The process ends: no more timers, idle threads end, and nothing is recorded any more."""
        self._is_closed = True
        self._deadlines.close()
        self._threads.close()

    # ------------------------------------------------------------------------------------------ the steps

    async def _run_handler(self, attempt: Attempt) -> Outcome | None:
        """How the handler ended; None when there is nothing to record."""
        outcome: Outcome | None = None
        attempt.begin(grace_s=FENCE_GRACE_S)
        self._deadlines.watch(attempt.due)
        try:
            if attempt.stop is None:
                failpoints.reach("worker.in_handler")
                if log.isEnabledFor(logging.DEBUG):
                    log.debug(names.ATTEMPT_STARTED, extra=_fields(attempt))
                context = JobContext(attempt.claimed, attempt)
                started = attempt.handler.start(context, attempt.claimed, self._threads)
                outcome = Succeeded(document_of(await started))
                if attempt.children:
                    await self._offspring.grow(attempt)
        except BaseException as error:
            if self._is_closed:
                raise
            # SystemExit and KeyboardInterrupt as well: a handler does not end its worker.
            outcome = attempt.handler.judge(error)
        if attempt.stop is None:
            return outcome
        task = attempt.task
        while task is not None and task.cancelling():
            task.uncancel()  # what follows is not to be cancelled
        return attempt.outcome_of_stop()

    def _hand_back_slot(self, attempt: Attempt) -> None:
        del self.running[attempt.claimed.token]
        if attempt.zombie:
            self.zombies -= 1
        self._pulse.beat()

    async def _conclude(self, attempt: Attempt, outcome: Outcome | None) -> None:
        """From here on the attempt cannot be stopped."""
        attempt.closed = True
        try:
            if outcome is None:
                self._drop(attempt)
            else:
                await self._record(attempt, outcome)
            if attempt.handler.has_after:
                await attempt.handler.after(attempt.claimed)
        except Exception:
            log.exception(names.ATTEMPT_UNSETTLED, extra=_fields(attempt))
        finally:
            # Whatever went wrong: it is not to be beaten for ever. The reaper takes it from there.
            self._let_go(attempt)

    async def _record(self, attempt: Attempt, outcome: Outcome) -> None:
        """Decide, settle and report."""
        if attempt.pending is not None:
            await self._progress.finish(attempt)
        verdict = decide(outcome, attempt.policy, failures=attempt.claimed.failures, dice=self._dice())
        settled = await self._settle(attempt, verdict)
        self._report(attempt, verdict, settled)

    async def _settle(self, attempt: Attempt, verdict: Verdict) -> bool:
        claimed = attempt.claimed
        settled = await self._settler.settle(
            claimed.queue,
            Settlement(
                id=claimed.id,
                token=claimed.token,
                attempt=claimed.attempt,
                verdict=verdict,
                run_ms=attempt.run_ms,
                wait_ms=claimed.wait_ms,
                max_retries=attempt.policy.max_retries,
                children=attempt.offspring if type(verdict) is Complete else [],
            ),
        )
        self._let_go(attempt)
        return settled

    def _report(self, attempt: Attempt, verdict: Verdict, settled: bool) -> None:
        match verdict:
            case Complete():
                self.counts["complete"] += 1
                level = logging.DEBUG
            case RetryAt() | Reschedule():
                self.counts["retried"] += 1
                level = logging.INFO
            case _:
                self.counts["failed"] += 1
                level = logging.INFO
        if not settled:
            log.warning(names.ATTEMPT_FENCED, extra=_fields(attempt))
        elif log.isEnabledFor(level):
            extra = {**_fields(attempt), "outcome": outcome_of(verdict), "run_ms": attempt.run_ms}
            if isinstance(verdict, RetryAt | DeadLetter):
                extra |= {"error_class": verdict.failure.error_class.value, "error": verdict.failure.message}
            log.log(level, names.ATTEMPT_SETTLED, extra=extra)

    def _let_go(self, attempt: Attempt) -> None:
        attempt.recorded = True
        self.held.pop(attempt.claimed.token, None)
        self._pulse.beat()

    def _drop(self, attempt: Attempt) -> None:
        self._let_go(attempt)
        self._metrics.count(names.FENCED_TOTAL)
        log.warning(names.ATTEMPT_FENCED, extra=_fields(attempt))

    # ------------------------------------------------------------------------- stragglers and suspects

    def _on_due(self, attempt: Attempt) -> None:
        if attempt.stop is None:
            self.stop(attempt, Stop.TIMEOUT)
        else:
            self._fence(attempt)

    def _fence(self, attempt: Attempt) -> None:
        """The handler was told to stop and does not: record the end without it. Its slot stays taken."""
        attempt.due = math.inf
        attempt.zombie = attempt.closed = True
        self.zombies += 1
        self._metrics.count(names.ZOMBIES_TOTAL)
        log.error(names.ATTEMPT_ZOMBIE, extra={**_fields(attempt), "stop": attempt.stop})
        assert attempt.task is not None
        attempt.task.cancel()  # it may heed the second time
        self._spawn(self._conclude(attempt, attempt.outcome_of_stop()))
        self._on_zombie()
        self._pulse.beat()

    async def _run_alone(self, attempt: Attempt) -> None:
        token = attempt.claimed.token
        self.running[token] = attempt
        attempt.task = self.tasks[token] = self._loop.create_task(self.execute(attempt))
        await attempt.task

    async def _give_up(self, attempt: Attempt) -> None:
        await self._conclude(attempt, attempt.outcome_of_stop())

    def _others_are_done(self) -> bool:
        return len(self.running) <= self.zombies and not self._settler.unflushed and not self._claiming()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._others.add(task)
        task.add_done_callback(self._others.discard)


def _fields(attempt: Attempt) -> dict[str, object]:
    claimed = attempt.claimed
    return {
        "job_id": str(claimed.id),
        "attempt": claimed.attempt,
        "type": claimed.type,
        "queue": claimed.queue,
        "tenant_id": claimed.tenant_id,
        "correlation_id": claimed.correlation_id,
    }
