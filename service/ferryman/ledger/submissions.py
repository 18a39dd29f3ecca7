"""Submissions: jobs enter the ledger, many callers in one statement and one COMMIT."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID

from msgspec import Struct

from ferryman.core.job import Actor, Inserted, NewJob, Position
from ferryman.core.status import JobStatus
from ferryman.ledger.batching import Batcher
from ferryman.ledger.failures import is_conflict, is_data_error, is_foreign, leaves_doubt, translate
from ferryman.ledger.pool import Held, Pools
from ferryman.ledger.positions import to_position
from ferryman.ledger.statements import statement
from ferryman.ports import (
    LedgerError,
    LedgerUnavailableError,
    OutcomeUnknownError,
    RejectedDataError,
    UnknownQueueError,
)

MAX_BATCH: Final = 500
MAX_WAITING: Final = 5_000
LANES: Final = 2
# What one statement may take, and what a batch may take with all that it tries again.
STATEMENT_SECONDS: Final = 2.0
TOTAL_SECONDS: Final = 2.8
_CONFLICT_TRIES: Final = 4
_TWIN_TRIES: Final = 3


class Submission(Struct, frozen=True):
    """A job and who submits it."""

    job: NewJob
    actor: Actor


class Submissions:
    """The insertion half of the job store."""

    def __init__(self, pools: Pools, *, on_doubt: Callable[[], None] = lambda: None) -> None:
        self._pools = pools
        self._on_doubt = on_doubt
        self._batcher: Batcher[Submission, Inserted] = Batcher(
            self._flush, max_batch=MAX_BATCH, max_waiting=MAX_WAITING, lanes=LANES
        )

    async def insert(self, job: NewJob, actor: Actor) -> Inserted:
        """As `JobStore.insert`."""
        return await self._batcher.submit(Submission(job, actor))

    async def insert_all(self, jobs: Sequence[NewJob], actor: Actor) -> list[Inserted]:
        """As `JobStore.insert_all`."""
        batch = [Submission(job, actor) for job in jobs]
        answers = await self._store(batch, whole=True) if batch else []
        inserted: list[Inserted] = []
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
            inserted.append(answer)
        return inserted

    async def drain(self) -> None:
        """Return when every submission has its answer."""
        await self._batcher.drain()

    async def _flush(self, batch: Sequence[Submission]) -> Sequence[Inserted | Exception]:
        try:
            return await self._store(batch, whole=False)
        except RejectedDataError as error:
            if len(batch) == 1:
                return [error]
            middle = len(batch) // 2
            return [*await self._flush(batch[:middle]), *await self._flush(batch[middle:])]

    async def _store(self, batch: Sequence[Submission], *, whole: bool) -> list[Inserted | LedgerError]:
        """Store what can be stored; `whole`: all or nothing. Raises LedgerError for the batch."""
        storing = _Storing(self._pools, batch, whole, self._on_doubt)
        try:
            async with asyncio.timeout(TOTAL_SECONDS):
                return await storing.run()
        except TimeoutError:
            if storing.sent:
                raise OutcomeUnknownError([one.job.id for one in batch]) from None
            raise LedgerUnavailableError("the ledger cannot be reached") from None


class _Storing:
    """One batch on its way into the ledger."""

    def __init__(
        self, pools: Pools, batch: Sequence[Submission], whole: bool, on_doubt: Callable[[], None]
    ) -> None:
        self._pools = pools
        self._batch = batch
        self._whole = whole
        self._on_doubt = on_doubt
        self.sent = False

    async def run(self) -> list[Inserted | LedgerError]:
        for _ in range(_CONFLICT_TRIES):
            try:
                return await self._once()
            except Exception as error:
                if is_conflict(error):
                    continue
                if leaves_doubt(error):
                    return await self._resolve_doubt()
                if is_foreign(error):
                    raise translate(error) from error
                raise
        raise LedgerUnavailableError("the ledger is contended")

    async def _once(self) -> list[Inserted | LedgerError]:
        async with self._pools.hot.held() as connection:
            if self._whole and any(one.job.unique_key for one in self._batch):
                # A twin that ends in between makes a second statement, and both must hold or neither.
                async with connection.transaction():
                    answers = await self._insert(connection)
            else:
                answers = await self._insert(connection)
            if connection.unreplicated:
                raise TimeoutError
            return answers

    async def _insert(self, connection: Held) -> list[Inserted | LedgerError]:
        self.sent = True
        return await insert_rows(connection, self._batch, whole=self._whole)

    async def _resolve_doubt(self) -> list[Inserted | LedgerError]:
        """The same INSERT again, by id, over a fresh connection: it decides, or waits for who decides.

        Looking the ids up would not do: a row that is committed but not yet replicated is invisible, and
        appears later.
        """
        self._on_doubt()
        try:
            async with self._pools.hot.held(fresh=True) as connection:
                async with connection.transaction():
                    answers = await self._insert(connection)
                    # Rows that were there already leave this COMMIT nothing to write, and it would not wait
                    # for a standby. This makes it write, and so wait for all that was written before.
                    await connection.execute("SELECT pg_logical_emit_message(true, 'ferryman', '')")
                if not connection.unreplicated:
                    return answers
        except LedgerError as error:
            if isinstance(error, RejectedDataError | UnknownQueueError):
                raise
        except Exception as error:
            if is_data_error(error):
                raise translate(error) from error
        raise OutcomeUnknownError([one.job.id for one in self._batch])


async def insert_children(connection: Held, children: Sequence[Submission]) -> list[Position]:
    """Insert jobs inside the caller's transaction; positions of those that are new.

    Raises UnknownQueueError and what the driver raises, and then the transaction is spoilt.
    """
    if not children:
        return []
    answers = await insert_rows(connection, children, whole=True)
    new = [answer.id for answer in answers if isinstance(answer, Inserted) and not answer.duplicate]
    return [to_position(row) for row in await connection.fetch(statement("positions"), new)]


async def insert_rows(
    connection: Held, batch: Sequence[Submission], *, whole: bool
) -> list[Inserted | LedgerError]:
    """Every row by one statement; those that it left out are looked up, and tried again if need be.

    `whole`: no row at all if any queue is unknown (UnknownQueueError). Raises what the driver raises.
    """
    answers: dict[UUID, Inserted | LedgerError] = {}
    missing = list(batch)
    for _ in range(_TWIN_TRIES):
        rows = await connection.fetch(
            statement("insert_jobs"), *columns(missing), connection.shard, whole, timeout=STATEMENT_SECONDS
        )
        answers.update((row["id"], _inserted(row)) for row in rows)
        missing = [one for one in missing if one.job.id not in answers]
        if not missing:
            break
        answers.update(await _explain(connection, missing, whole=whole))
        missing = [one for one in missing if one.job.id not in answers]
        if not missing:
            break
    contended = LedgerUnavailableError("a unique key changes hands too fast")
    return [answers.get(one.job.id, contended) for one in batch]


async def _explain(
    connection: Held, missing: Sequence[Submission], *, whole: bool
) -> dict[UUID, Inserted | LedgerError]:
    """Why rows were left out: a twin, or an unknown queue. A row without an answer may be tried again."""
    jobs = [one.job for one in missing]
    rows = await connection.fetch(
        statement("find_twins"),
        [job.id for job in jobs],
        [job.tenant_id for job in jobs],
        [job.type for job in jobs],
        [job.unique_key for job in jobs],
        [job.queue for job in jobs],
        timeout=STATEMENT_SECONDS,
    )
    answers: dict[UUID, Inserted | LedgerError] = {}
    for job, row in zip(jobs, rows, strict=True):
        if not row["queue_known"]:
            if whole:
                raise UnknownQueueError(job.queue)
            answers[job.id] = UnknownQueueError(job.queue)
        elif row["id"] is not None:
            answers[job.id] = _inserted(row, duplicate=row["duplicate"])
    return answers


def columns(batch: Sequence[Submission]) -> list[list[Any]]:
    """The first 28 arguments of `sql/insert_jobs.sql`. Raises UnicodeDecodeError where a document is none."""
    rows = [_row(one.job, one.actor) for one in batch]
    return [list(column) for column in zip(*rows, strict=True)]


def _row(job: NewJob, actor: Actor) -> tuple[Any, ...]:
    return (
        job.id,
        job.tenant_id,
        job.user_id,
        job.type,
        job.queue,
        job.priority,
        job.input.decode(),
        job.max_retries,
        job.max_retries_given,
        job.retry_delay_ms,
        job.retry_delay_given,
        job.visibility_timeout_ms,
        job.timeout_ms,
        job.run_in_ms,
        job.run_at,
        job.expires_in_ms,
        job.expires_at,
        _array_literal(job.tags),
        job.metadata.decode(),
        job.unique_key,
        job.correlation_id,
        job.traceparent,
        job.parent_id,
        actor.kind.value,
        actor.id,
        actor.trace_id or _trace_id(job.traceparent),
        actor.override,
        actor.override_reason,
    )


def _array_literal(texts: Sequence[str]) -> str:
    # Lists of unequal lengths are no PostgreSQL array of arrays, so each list travels as one text.
    if not texts:
        return "{}"
    escaped = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return '{"' + '","'.join(escaped) + '"}'


def _trace_id(traceparent: str | None) -> str | None:
    return traceparent[3:35] if traceparent else None


def _inserted(row: Any, *, duplicate: bool = False) -> Inserted:
    return Inserted(
        id=row["id"],
        queue=row["queue_name"],
        tenant_id=row["tenant_id"],
        user_id=row["user_id"],
        status=JobStatus(row["status"]),
        priority=row["priority"],
        run_at=row["run_at"],
        created_at=row["created_at"],
        ready_ms=row["ready_ms"],
        due_in_ms=row["due_in_ms"],
        duplicate=duplicate,
    )
