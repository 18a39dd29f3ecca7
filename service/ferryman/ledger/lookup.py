"""Jobs as users read them: one, a page, their attempts, their history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from ferryman.core.ids import uuid7
from ferryman.core.job import Job
from ferryman.core.status import JobStatus
from ferryman.ledger.audit import audit_row
from ferryman.ledger.instants import rfc3339
from ferryman.ledger.pool import Pools
from ferryman.ledger.statements import statement
from ferryman.ports import JobFilter, Page, Scope

# A page ends once its inputs and outputs have passed this: 200 jobs of 1 MiB are nobody's list.
PAGE_BYTES: Final = 8 * 1024 * 1024
FIRST_ID: Final = UUID(int=0)
LAST_ID: Final = UUID(int=2**128 - 1)
# An id carries the clock of the process that made it. Bounds by id spare the search of what was created at
# quite another time, and that clock may be a day wrong before they hide a row.
_CLOCK_SLACK_MS: Final = 86_400_000
_LAST_MS: Final = 2**48 - 1
# What the index jobs_open holds: these are few among what a tenant ever submitted.
_OPEN: Final = frozenset(JobStatus) - {JobStatus.COMPLETED, JobStatus.CANCELLED, JobStatus.EXPIRED}
_BYTES_COLUMNS: Final = ("input", "output", "error_details", "metadata")


class Lookup:
    """The reading half of the job store."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    async def get(self, scope: Scope, job_id: UUID) -> Job | None:
        """As `JobStore.get`."""
        row = await self._row(scope, job_id)
        return None if row is None else decode_job(row)

    async def get_with_attempts(
        self, scope: Scope, job_id: UUID
    ) -> tuple[Job, list[Mapping[str, object]]] | None:
        """As `JobStore.get_with_attempts`. Attempts before the latest 250 that did not complete are gone."""
        row = await self._row(scope, job_id)
        if row is None:
            return None
        job = decode_job(row)
        attempts: list[Mapping[str, object]] = msgspec.json.decode(row["kept"])
        if row["stored_status"] in (JobStatus.RUNNING, JobStatus.COMPLETED):
            attempts.append(_latest_attempt(row, job))
        return job, attempts

    async def _row(self, scope: Scope, job_id: UUID) -> Any:
        pools = self._pools.as_tenant(scope.tenant_id)
        return await pools.read.fetchrow(statement("get_job"), scope.tenant_id, scope.user_id, job_id)

    async def statuses(self, job_ids: Sequence[UUID]) -> Mapping[UUID, JobStatus]:
        """As `JobStore.statuses`."""
        rows = await self._pools.read.fetch(statement("get_statuses"), list(job_ids))
        return {row["id"]: JobStatus(row["status"]) for row in rows}

    async def find(self, scope: Scope, wanted: JobFilter, *, limit: int, after: UUID | None) -> Page[Job]:
        """As `JobStore.find`. A page whose documents are large has fewer rows, at least one."""
        if scope.user_id is not None and wanted.user_ids and scope.user_id not in wanted.user_ids:
            return Page([], None)
        newest, oldest = id_bounds(wanted.created_after, wanted.created_before)
        rows = await self._pools.as_tenant(scope.tenant_id).read.fetch(
            statement("find_jobs"),
            scope.tenant_id,
            _one_user(scope, wanted),
            min(after or LAST_ID, newest),
            oldest,
            wanted.statuses or None,
            wanted.types or None,
            wanted.queues or None,
            wanted.user_ids or None,
            wanted.tags,
            list(wanted.metadata),
            list(wanted.metadata.values()),
            wanted.created_after,
            wanted.created_before,
            limit,
            PAGE_BYTES,
            bool(wanted.statuses) and _OPEN.issuperset(wanted.statuses),
        )
        return page_of(rows, decode_job)

    async def history(
        self, scope: Scope, job_id: UUID, *, limit: int, after: UUID | None
    ) -> Page[Mapping[str, object]]:
        """As `JobStore.history`. A user sees nothing of a job that has been pruned."""
        rows = await self._pools.as_tenant(scope.tenant_id).read.fetch(
            statement("get_history"), scope.tenant_id, scope.user_id, job_id, after, limit + 1
        )
        return Page(
            [audit_row(row) for row in rows[:limit]], rows[limit - 1]["id"] if len(rows) > limit else None
        )


def page_of(rows: Sequence[Any], decode: Any) -> Page[Any]:
    """The page of rows that each say how many were `found`: more than these, and another page follows."""
    more = bool(rows) and rows[0]["found"] > len(rows)
    return Page([decode(row) for row in rows], rows[-1]["id"] if more else None)


def id_bounds(created_after: datetime | None, created_before: datetime | None) -> tuple[UUID, UUID]:
    """Ids that lie above and below all that was created between two instants, a day's slack included."""
    newest = LAST_ID if created_before is None else _id_at(created_before, _CLOCK_SLACK_MS)
    return newest, FIRST_ID if created_after is None else _id_at(created_after, -_CLOCK_SLACK_MS)


def _id_at(at: datetime, offset_ms: int) -> UUID:
    return uuid7(max(0, min(_LAST_MS, int(at.timestamp() * 1000) + offset_ms)), bytes(10))


def _one_user(scope: Scope, wanted: JobFilter) -> int | None:
    """The user whose own index serves the search: of the scope, or the only one that is asked for."""
    if scope.user_id is None and len(wanted.user_ids) == 1:
        return wanted.user_ids[0]
    return scope.user_id


def decode_job(row: Any) -> Job:
    """A row with the columns of a job."""
    fields = {name: row[name] for name in Job.__struct_fields__}
    for name in _BYTES_COLUMNS:
        if fields[name] is not None:
            fields[name] = fields[name].encode()
    return Job(**{**fields, "status": JobStatus(fields["status"])})


def _latest_attempt(row: Any, job: Job) -> Mapping[str, object]:
    """The attempt that runs, or the one that completed: its row tells of it, nothing was kept."""
    return {
        "attempt": row["attempt"],
        "startedAt": rfc3339(row["started_at"]),
        "endedAt": rfc3339(row["completed_at"]),
        "waitMs": row["wait_ms"],
        "runMs": row["run_ms"],
        "workerId": row["worker_id"],
        "outcome": row["stored_status"],
        "error": None,
        "nextDelayMs": None,
        "countsAsRetry": False,
        "traceId": job.traceparent[3:35] if job.traceparent else None,
    }
