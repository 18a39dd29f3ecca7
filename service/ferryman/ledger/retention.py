"""Retention: what ended longer ago than its queue keeps it goes, in batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from msgspec import Struct, structs

from ferryman.core.ids import uuid7
from ferryman.core.job import Actor
from ferryman.core.queues import Retention, decode, is_system
from ferryman.ledger.lookup import FIRST_ID
from ferryman.ledger.pool import Pools
from ferryman.ledger.statements import statement
from ferryman.ledger.writes import who, write
from ferryman.ports import RetentionResult, Scope

BATCH: Final = 1_000
AUDIT_BATCH: Final = 2_000
# Counting the audit reads all that is old, dropping its days waits for a lock: both may take their time.
_PATIENT_SECONDS: Final = 120.0


class Cutoffs(Struct, frozen=True, kw_only=True):
    """What ended before these instants goes from one queue. The audit's is a whole minute, as the
    statistics' are.
    """

    queue: str
    completed: datetime
    cancelled: datetime
    dead: datetime
    audit: datetime


class LedgerRetention:
    """`RetentionStore` on PostgreSQL."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    async def apply(self, scope: Scope, *, queue: str | None, dry_run: bool, actor: Actor) -> RetentionResult:
        """As `RetentionStore.apply`. Raises LedgerError; what was done until then stays done.

        All cutoffs count from the instant of the call, so what it writes itself is never too old for it.
        """
        cutoffs = await self._cutoffs(scope, queue)
        if not cutoffs:
            return RetentionResult(completed=0, cancelled=0, expired=0, dead_letters=0, audit=0)
        gone = Counter[str]()
        await self._prune_jobs(gone, scope, queue, cutoffs, dry_run, actor)
        await self._prune_letters(gone, scope, queue, cutoffs, dry_run)
        if scope.tenant_id is None and scope.user_id is None:
            whole = queue is None
            count = self._count_audit(cutoffs, whole) if dry_run else self._prune_audit(cutoffs, whole)
            gone["audit"] = await count
        return RetentionResult(**{name: gone[name] for name in RetentionResult.__struct_fields__})

    async def _cutoffs(self, scope: Scope, queue: str | None) -> list[Cutoffs]:
        rows = await self._pools.as_tenant(scope.tenant_id).read.fetch(statement("get_policies"))
        cutoffs = _system_follows([_cutoffs(row) for row in rows])
        return [one for one in cutoffs if queue is None or one.queue == queue]

    async def _prune_jobs(
        self,
        gone: Counter[str],
        scope: Scope,
        queue: str | None,
        cutoffs: Sequence[Cutoffs],
        dry_run: bool,
        actor: Actor,
    ) -> None:
        latest = max(max(one.completed, one.cancelled, one.dead) for one in cutoffs)
        policies = (
            [one.queue for one in cutoffs],
            [one.completed for one in cutoffs],
            [one.cancelled for one in cutoffs],
            [one.dead for one in cutoffs],
        )
        pools = self._pools.as_tenant(scope.tenant_id)
        after: UUID | None = FIRST_ID
        while after is not None:
            where = (scope.tenant_id, scope.user_id, queue, after, _id_at(latest), BATCH)
            rows = await write(pools, "prune_jobs", *where, *policies, dry_run, *who(actor))
            for name in ("completed", "cancelled", "expired", "dead_letters"):
                gone[name] += rows[0][name]
            after = rows[0]["last"]

    async def _prune_letters(
        self, gone: Counter[str], scope: Scope, queue: str | None, cutoffs: Sequence[Cutoffs], dry_run: bool
    ) -> None:
        policies = ([one.queue for one in cutoffs], [one.dead for one in cutoffs])
        latest = _id_at(max(one.dead for one in cutoffs))
        pools = self._pools.as_tenant(scope.tenant_id)
        after: UUID | None = FIRST_ID
        while after is not None:
            where = (scope.tenant_id, scope.user_id, queue, after, latest, BATCH)
            rows = await write(pools, "prune_letters", *where, *policies, dry_run)
            gone["dead_letters"] += rows[0]["dead_letters"]
            after = rows[0]["last"]

    async def _count_audit(self, cutoffs: Sequence[Cutoffs], whole: bool) -> int:
        row = await self._pools.hot.fetchrow(
            statement("count_audit"),
            [one.queue for one in cutoffs],
            [one.audit for one in cutoffs],
            min(one.audit for one in cutoffs) if whole else None,
            timeout=_PATIENT_SECONDS,
        )
        rows: int = row["rows"]
        return rows

    async def _prune_audit(self, cutoffs: Sequence[Cutoffs], whole: bool) -> int:
        """Whole days that no queue keeps are dropped, the rest goes row by row, the statistics with it."""
        gone = 0
        if whole:
            earliest = min(one.audit for one in cutoffs)
            gone += await self._drop_days(earliest)
            gone += await self._drain("prune_audit", None, earliest)
        for one in cutoffs:
            gone += await self._drain("prune_audit", one.queue, one.audit)
            await self._drain("prune_stats", one.queue, one.audit)
        return gone

    async def _drop_days(self, before: datetime) -> int:
        row = await self._pools.hot.fetchrow(statement("drop_audit_days"), before, timeout=_PATIENT_SECONDS)
        rows: int = row["rows"]
        return rows

    async def _drain(self, name: str, queue: str | None, before: datetime) -> int:
        gone = 0
        while True:
            count: int = (await write(self._pools, name, queue, before, AUDIT_BATCH))[0]["rows"]
            gone += count
            if count < AUDIT_BATCH:
                return gone


def _cutoffs(row: Any) -> Cutoffs:
    """By the queue's policy; the jobs that a deleted queue left behind follow the default."""
    now: datetime = row["now"]
    kept = Retention() if row["settings"] is None else decode(row["settings"]).retention
    audit = now - timedelta(milliseconds=kept.audit_ms)
    return Cutoffs(
        queue=row["name"],
        completed=now - timedelta(milliseconds=kept.completed_ms),
        cancelled=now - timedelta(milliseconds=kept.cancelled_ms),
        dead=now - timedelta(milliseconds=kept.dead_letter_ms),
        audit=audit.replace(second=0, microsecond=0),
    )


def _system_follows(cutoffs: Sequence[Cutoffs]) -> list[Cutoffs]:
    """Nobody sets the system's own queues, so their audit is kept no longer than that of all others: else it
    would hold up the days and the rows without a queue, which go by the longest.
    """
    longest = min((one.audit for one in cutoffs if not is_system(one.queue)), default=None)
    if longest is None:
        return list(cutoffs)
    return [
        structs.replace(one, audit=max(one.audit, longest)) if is_system(one.queue) else one
        for one in cutoffs
    ]


def _id_at(at: datetime) -> UUID:
    return uuid7(max(0, int(at.timestamp() * 1000)), bytes(10))
