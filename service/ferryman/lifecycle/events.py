"""Live events: one reader of the log a process, and everybody who listens to it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol
from uuid import UUID

from ferryman.core.events import Mark
from ferryman.core.job import Job
from ferryman.lifecycle.event_filters import EventFilter, JobChange
from ferryman.lifecycle.failures import NotFoundError, TooManyStreamsError
from ferryman.lifecycle.figures import Figures, QueueStatus
from ferryman.lifecycle.outbox import Frame, Outbox
from ferryman.ports import AuditEvent, Ledger, LedgerError, WorkerRecord
from ferryman.telemetry import names
from ferryman.telemetry.metrics import Metrics

POLL_SECONDS: Final = 0.1
BATCH: Final = 1_000
FIGURES_SECONDS: Final = 1.0
STREAMS_PER_USER: Final = 50
RESUME_MS: Final = 86_400_000

log = logging.getLogger(__name__)


class Encoder(Protocol):
    """Frames in their final form, made once for all who get them."""

    def job(self, change: JobChange) -> Sequence[Frame]: ...

    def queue(self, status: QueueStatus) -> Frame: ...

    def worker(self, record: WorkerRecord, *, is_gone: bool) -> Frame: ...

    def note(self, kind: str, mark: Mark | None, **fields: object) -> Frame: ...


class Listener:
    """One connection: whose events it may see, what it asked for, and what waits to be sent to it."""

    def __init__(
        self,
        *,
        tenant_id: str,
        user_id: int | None,
        filters: Iterable[EventFilter],
        sees_workers: bool,
        outbox: Outbox,
    ) -> None:
        self.tenant_id = tenant_id
        self.user_id = user_id
        self.filters = list(filters)
        self.sees_workers = sees_workers
        self.outbox = outbox
        self.start: Mark | None = None

    def takes(self, change: JobChange) -> bool:
        """Whether it may see this change of its tenant, and asked for it. A user sees the user's own jobs."""
        if self.user_id is not None and (change.job is None or change.job.user_id != self.user_id):
            return False
        return any(one.takes(change) for one in self.filters)

    def takes_queue(self, queue: str) -> bool:
        """Whether it asked for this queue."""
        return any(one.takes_queue(queue) for one in self.filters)


class EventHub:
    """Reads the log while somebody listens, and hands each event to those who may see it and asked for it."""

    def __init__(self, ledger: Ledger, figures: Figures, encode: Encoder, metrics: Metrics) -> None:
        self._ledger = ledger
        self._figures = figures
        self._encode = encode
        self._metrics = metrics
        self._lock = asyncio.Lock()
        self._mark: Mark | None = None
        self._listeners: defaultdict[str, set[Listener]] = defaultdict(set)
        self._streams: Counter[tuple[str, str]] = Counter()
        self._open: set[Outbox] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._changed: set[tuple[str, str]] = set()
        self._shown: dict[tuple[str, str], str] = {}
        self._workers: dict[str, WorkerRecord] | None = None
        self._closed = False
        metrics.gauge(names.EVENT_STREAMS, lambda: self._streams.total())

    @asynccontextmanager
    async def admitted(self, tenant_id: str, subject: str, outbox: Outbox) -> AsyncIterator[None]:
        """A place for one connection of this user. Raises TooManyStreamsError."""
        key = (tenant_id, subject)
        if self._streams[key] >= STREAMS_PER_USER:
            raise TooManyStreamsError(f"a user holds at most {STREAMS_PER_USER} event streams open")
        self._streams[key] += 1
        self._open.add(outbox)
        if self._closed:
            outbox.close("shutdown")
        try:
            yield
        finally:
            self._open.discard(outbox)
            self._streams[key] -= 1
            if not self._streams[key]:
                del self._streams[key]
            if outbox.reason == "slow":
                self._metrics.count(names.SLOW_STREAMS_TOTAL)

    async def listen(self, listener: Listener, after: Mark | None) -> None:
        """Send it what happened behind `after`, and then what happens; without `after` what happens from now
        on. A mark that is too old is answered with a gap. Returns once it is live. Raises LedgerError.
        """
        kind = "ready"
        if after is not None and await self._is_lost(after):
            kind, after = "gap", None
        is_first = True
        while not listener.outbox.closed.is_set():
            async with self._lock:
                mark = await self._present(is_first)
                if after is None or after >= mark:
                    self._add(listener, after or mark)
                    listener.outbox.offer(self._encode.note(kind, after or mark))
                    return
            after, is_first = await self._catch_up(listener, after, mark), False

    def leave(self, listener: Listener) -> None:
        """It is gone."""
        listeners = self._listeners[listener.tenant_id]
        listeners.discard(listener)
        if not listeners:
            del self._listeners[listener.tenant_id]

    async def close(self) -> None:
        """Let everyone go."""
        self._closed = True
        for outbox in list(self._open):
            outbox.close("shutdown")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ------------------------------------------------------------------------------------------ the log

    async def poll(self) -> bool:
        """Read on once and hand out what there is. False: there is more. Raises LedgerError."""
        async with self._lock:
            mark = await self._present()
            batch = await self._ledger.events.read(
                sorted(self._listeners), after=mark, limit=BATCH, shared=True
            )
            changes = await self._changes(batch.events, mark)
            self._mark = batch.upto
            for event in batch.events:
                self._note_queue(event)
            for change in changes:
                self._hand_out(change)
        return batch.is_whole

    async def _present(self, is_first: bool = False) -> Mark:
        """The mark up to which all was handed out; for the first who listens, that of now."""
        if self._mark is None or (is_first and not self._tasks):
            self._mark = (await self._ledger.events.read([], after=None, limit=1)).upto
        return self._mark

    async def _is_lost(self, after: Mark) -> bool:
        """Whether events behind this mark may be gone: too old, pruned, or of another database."""
        kept_ms = [record.settings.retention.audit_ms for record in await self._ledger.queues.all()]
        now = (await self._ledger.events.read([], after=None, limit=1)).upto
        return after.xid > now.xid or now.at_ms - after.at_ms > min([RESUME_MS, *kept_ms])

    async def _catch_up(self, listener: Listener, after: Mark, until: Mark) -> Mark:
        batch = await self._ledger.events.read([listener.tenant_id], after=after, until=until, limit=BATCH)
        for change in await self._changes(batch.events, after):
            if listener.takes(change):
                for frame in self._encode.job(change):
                    await listener.outbox.put(frame)
        return batch.upto

    async def _changes(self, events: Sequence[AuditEvent], after: Mark) -> list[JobChange]:
        """The events of jobs with their jobs, those of each job in the order in which they happened."""
        of_jobs = [event for event in events if event.job_id is not None and event.tenant_id is not None]
        wanted: defaultdict[str, set[UUID]] = defaultdict(set)
        for event in of_jobs:
            wanted[event.tenant_id or ""].add(event.job_id or UUID(int=0))
        jobs: dict[UUID, Job] = {}
        for tenant_id, ids in wanted.items():
            jobs |= await self._ledger.events.summaries(tenant_id, sorted(ids))
        return [
            JobChange(event=event, mark=mark, job=jobs.get(event.job_id or UUID(int=0)))
            for event, mark in in_order(of_jobs, after)
        ]

    def _hand_out(self, change: JobChange) -> None:
        frames: Sequence[Frame] = ()
        for listener in self._listeners.get(change.event.tenant_id or "", ()):
            if listener.start is not None and change.event.mark <= listener.start:
                continue  # it has had that from another process, which was ahead of this one
            if listener.takes(change):
                frames = frames or self._encode.job(change)
                for frame in frames:
                    listener.outbox.offer(frame)

    def _add(self, listener: Listener, start: Mark) -> None:
        listener.start = start
        self._listeners[listener.tenant_id].add(listener)
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._read_on()), asyncio.create_task(self._look_on())]
            self._tasks[0].add_done_callback(lambda _: self._tasks.clear())

    async def _read_on(self) -> None:
        is_whole = True
        while self._listeners:
            if is_whole:
                await asyncio.sleep(POLL_SECONDS)
            try:
                is_whole = await self.poll()
            except LedgerError as error:
                is_whole = True
                log.debug(names.LEDGER_AWAY, extra={"reason": str(error)})
            except Exception:
                is_whole = True
                log.exception(names.EVENTS_FAILED)
        self._tasks[1].cancel()

    # ------------------------------------------------------------------------------ figures and workers

    def _note_queue(self, event: AuditEvent) -> None:
        if event.queue is not None:
            tenants = [event.tenant_id] if event.tenant_id is not None else list(self._listeners)
            self._changed.update((tenant_id, event.queue) for tenant_id in tenants)

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(FIGURES_SECONDS)
            try:
                await self.look()
            except LedgerError as error:
                log.debug(names.LEDGER_AWAY, extra={"reason": str(error)})
            except Exception:
                log.exception(names.EVENTS_FAILED)

    async def look(self) -> None:
        """Send figures of queues where something happened, and workers that changed. Raises LedgerError."""
        changed, self._changed = self._changed, set()
        for tenant_id, queue in sorted(changed):
            if tenant_id in self._listeners:
                await self._look_at_queue(tenant_id, queue)
        if any(one.sees_workers for listeners in self._listeners.values() for one in listeners):
            await self._look_at_workers()
        else:
            self._workers = None

    async def _look_at_queue(self, tenant_id: str, queue: str) -> None:
        try:
            status = await self._figures.of_tenant(queue, tenant_id)
        except NotFoundError:
            return
        frame = self._encode.queue(status)
        if self._shown.get((tenant_id, queue)) != frame.text:
            self._shown[tenant_id, queue] = frame.text
            for listener in self._listeners.get(tenant_id, ()):
                if listener.takes_queue(queue):
                    listener.outbox.offer(frame)

    async def _look_at_workers(self) -> None:
        before, now = self._workers, {record.id: record for record in await self._ledger.workers.all()}
        self._workers = now
        if before is None:
            return
        frames = [
            self._encode.worker(record, is_gone=False)
            for record in now.values()
            if record.id not in before or _said(before[record.id]) != _said(record)
        ]
        frames += [
            self._encode.worker(record, is_gone=True) for record in before.values() if record.id not in now
        ]
        for listeners in self._listeners.values():
            for listener in listeners:
                if listener.sees_workers:
                    for frame in frames:
                        listener.outbox.offer(frame)


def in_order(events: Sequence[AuditEvent], after: Mark) -> list[tuple[AuditEvent, Mark]]:
    """Each event with the mark behind which a reader that has had it goes on.

    Transactions that wait for each other's rows may end in another order than they began: then a job's events
    change places, and the mark stays before what has not been sent.
    """
    places: defaultdict[UUID | None, list[int]] = defaultdict(list)
    for index, event in enumerate(events):
        places[event.job_id].append(index)
    order = list(range(len(events)))
    for indexes in places.values():
        for place, index in zip(indexes, sorted(indexes, key=lambda i: (events[i].at, i)), strict=True):
            order[place] = index
    sent = [False] * len(events)
    whole = 0
    marked: list[tuple[AuditEvent, Mark]] = []
    for index in order:
        sent[index] = True
        while whole < len(events) and sent[whole]:
            whole += 1
        marked.append((events[index], events[whole - 1].mark if whole else after))
    return marked


def _said(record: WorkerRecord) -> tuple[object, ...]:
    return (record.state, record.busy, record.slots, record.drain_requested, record.queues, record.types)
