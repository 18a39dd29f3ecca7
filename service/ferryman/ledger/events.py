"""The log of events: the audit, in the order of the transactions that wrote it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from ferryman.core.events import FIRST, LAST, Mark, behind_all_before
from ferryman.core.job import Job
from ferryman.ledger.lookup import decode_job
from ferryman.ledger.pool import Pools
from ferryman.ledger.statements import statement
from ferryman.ports import AuditEvent, EventBatch


class Events:
    """`EventStore` on PostgreSQL."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    async def read(
        self,
        tenants: Sequence[str],
        *,
        after: Mark | None,
        until: Mark | None = None,
        limit: int,
        shared: bool = False,
    ) -> EventBatch:
        """As `EventStore.read`."""
        first, last = after or LAST, until or LAST
        rows = await self._pools.read.fetch(
            statement("read_events"),
            list(tenants),
            str(first.xid),
            first.id,
            str(last.xid),
            last.id,
            limit,
            shared,
        )
        events = [_event(row) for row in rows if row["id"] is not None]
        if len(events) >= limit:
            return EventBatch(events, events[-1].mark, is_whole=False)
        horizon = _horizon(rows[0]["horizon"], rows[0]["now"])
        return EventBatch(events, max(min(last, horizon), after or FIRST), is_whole=True)

    async def summaries(self, tenant_id: str, job_ids: Sequence[UUID]) -> Mapping[UUID, Job]:
        """As `EventStore.summaries`."""
        rows = await self._pools.as_tenant(tenant_id).read.fetch(
            statement("get_summaries"), tenant_id, list(job_ids)
        )
        return {row["id"]: decode_job(row) for row in rows}


def _horizon(xid: str, now: datetime) -> Mark:
    return behind_all_before(int(xid), now_ms=int(now.timestamp() * 1_000))


def _event(row: Any) -> AuditEvent:
    return AuditEvent(
        mark=Mark(int(row["xid"]), row["id"]),
        at=row["at"],
        tenant_id=row["tenant_id"],
        action=row["action"],
        job_id=row["job_id"],
        type=row["job_type"],
        queue=row["queue_name"],
        from_status=row["from_status"],
        to_status=row["to_status"],
        attempt=row["attempt"],
    )
