"""The audit as people read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ferryman.core.events import Mark
from ferryman.ledger.instants import rfc3339
from ferryman.ledger.pool import Pools
from ferryman.ledger.statements import statement
from ferryman.ports import AuditFilter, AuditPage


class Audit:
    """`AuditStore` on PostgreSQL."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    async def find(self, tenant_id: str, wanted: AuditFilter, *, limit: int, after: Mark | None) -> AuditPage:
        """As `AuditStore.find`."""
        rows = await self._pools.as_tenant(tenant_id).read.fetch(
            statement("find_audit"),
            tenant_id,
            wanted.actor_id,
            wanted.action,
            wanted.job_id,
            wanted.queue,
            wanted.start,
            wanted.end,
            limit + 1,
            None if after is None else str(after.xid),
            None if after is None else after.id,
        )
        more = len(rows) > limit
        last = Mark(int(rows[limit - 1]["xid"]), rows[limit - 1]["id"]) if more else None
        return AuditPage([audit_row(row) for row in rows[:limit]], last)


def audit_row(row: Any) -> Mapping[str, object]:
    """A row of the audit as REST shows it."""
    return {
        "auditId": str(row["id"]),
        "at": rfc3339(row["at"]),
        "tenantId": row["tenant_id"],
        "actor": {"kind": row["actor_kind"], "id": row["actor_id"]},
        "action": row["action"],
        "jobId": None if row["job_id"] is None else str(row["job_id"]),
        "queue": row["queue_name"],
        "fromStatus": row["from_status"],
        "toStatus": row["to_status"],
        "attempt": row["attempt"],
        "override": row["override"],
        "overrideReason": row["override_reason"],
        "correlationId": row["correlation_id"],
        "traceId": row["trace_id"],
        "details": None if row["details"] is None else msgspec.json.decode(row["details"]),
    }
