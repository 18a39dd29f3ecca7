"""The ends of attempts on their way to the ledger: what is buffered goes in one statement, then the next."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from msgspec import Struct

from ferryman import failpoints
from ferryman.core.job import Position, Settlement
from ferryman.core.status import STATS_OUTCOMES, Action
from ferryman.core.verdict import Cancel, Complete, DeadLetter, Reschedule, RetryAt, Verdict
from ferryman.ports import AttemptStore, Ended, LedgerError
from ferryman.telemetry import names
from ferryman.telemetry.metrics import Metrics
from ferryman.worker.backoff import Backoff
from ferryman.worker.releases import Releases

BATCH: Final = 250

log = logging.getLogger(__name__)


class _Entry(Struct):
    settlement: Settlement
    queue: str
    settled: asyncio.Future[bool]


class Settler:
    """Writes settlements in batches that form by themselves, and hands on what Redis must hear of them."""

    def __init__(
        self,
        attempts: AttemptStore,
        worker_id: str,
        releases: Releases,
        metrics: Metrics,
        on_flushed: Callable[[], None],
    ) -> None:
        self._attempts = attempts
        self._worker_id = worker_id
        self._releases = releases
        self._metrics = metrics
        self._on_flushed = on_flushed
        self._loop = asyncio.get_running_loop()
        self._buffer: deque[_Entry] = deque()
        self._in_flight = 0
        self._filled = asyncio.Event()

    @property
    def unflushed(self) -> int:
        """How many settlements are not in the ledger yet."""
        return len(self._buffer) + self._in_flight

    def settle(self, queue: str, settlement: Settlement) -> asyncio.Future[bool]:
        """Whether the attempt still held its lease, once the ledger has said so."""
        settled = self._loop.create_future()
        self._buffer.append(_Entry(settlement, queue, settled))
        self._filled.set()
        return settled

    async def run(self) -> None:
        """Flush for ever. An outage of the ledger is waited out: nothing that was done is thrown away."""
        backoff = Backoff(0.05, 1.0)
        while True:
            await self._filled.wait()
            try:
                await self.flush_once()
                backoff.reset()
            except LedgerError as error:
                log.warning(names.LEDGER_AWAY, extra={"unflushed": self.unflushed, "error": str(error)})
                await backoff.pause()
            except Exception:
                log.exception(names.WORKER_CYCLE_FAILED)
                await backoff.pause()

    async def flush_once(self) -> int:
        """Write one batch. Answers how many it held; raises LedgerError, with all still buffered."""
        batch = [self._buffer.popleft() for _ in range(min(BATCH, len(self._buffer)))]
        if not self._buffer:
            self._filled.clear()
        if not batch:
            return 0
        self._in_flight = len(batch)
        try:
            await self._write(batch)
        except BaseException:
            self._buffer.extendleft(entry for entry in reversed(batch) if not entry.settled.done())
            self._filled.set()
            raise
        finally:
            self._in_flight = 0
            self._on_flushed()
        return len(batch)

    async def _write(self, batch: Sequence[_Entry]) -> None:
        failpoints.reach("worker.before_settle")
        try:
            positions = await self._attempts.settle(self._worker_id, [entry.settlement for entry in batch])
        except LedgerError:
            raise
        except Exception as error:
            await self._write_by_halves(batch, error)
            return
        failpoints.reach("worker.after_settle")
        self._conclude(batch, positions)

    async def _write_by_halves(self, batch: Sequence[_Entry], error: Exception) -> None:
        """The ledger buries a value that PostgreSQL refuses. Should one end break it in a way that nobody
        foresaw, the others must not wait behind it for ever: its own lease ends, and the reaper takes it.
        """
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._write(batch[:middle])
            await self._write(batch[middle:])
            return
        (entry,) = batch
        log.error(names.ATTEMPT_UNSETTLED, exc_info=error, extra={"job_id": str(entry.settlement.id)})
        entry.settled.set_result(False)

    def _conclude(self, batch: Sequence[_Entry], positions: Sequence[Position]) -> None:
        where = {position.id: position for position in positions}
        fenced: list[UUID] = []
        counts: Counter[tuple[str, str]] = Counter()
        for entry in batch:
            settlement = entry.settlement
            position = where.pop(settlement.id, None)
            if position is None:
                fenced.append(settlement.id)
            else:
                ended = Ended(settlement.id, settlement.run_ms, settlement.token)
                self._releases.add(entry.queue, ended, position)
                counts[entry.queue, outcome_of(settlement.verdict)] += 1
            if not entry.settled.done():
                entry.settled.set_result(position is not None)
        self._releases.announce(where.values())
        self._releases.doubt(fenced)
        for (queue, outcome), count in counts.items():
            self._metrics.count(names.SETTLED_TOTAL, count, queue=queue, outcome=outcome)
        if fenced:
            self._metrics.count(names.FENCED_TOTAL, len(fenced))


def outcome_of(verdict: Verdict) -> str:
    """The word under which metrics and logs count a verdict."""
    match verdict:
        case Complete():
            return STATS_OUTCOMES[Action.COMPLETED]
        case RetryAt():
            return STATS_OUTCOMES[Action.RETRIED]
        case DeadLetter():
            return STATS_OUTCOMES[Action.DEAD_LETTERED]
        case Cancel():
            return STATS_OUTCOMES[Action.CANCELLED]
        case Reschedule():
            return STATS_OUTCOMES[Action.RELEASED]
