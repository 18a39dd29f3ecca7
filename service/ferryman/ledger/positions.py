"""Where jobs belong in the dispatcher, as the ledger has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from msgspec import structs

from ferryman.core.job import Position
from ferryman.core.priority import DEFAULT_AGING_MS, score
from ferryman.ledger.pool import Pools
from ferryman.ledger.statements import statement


async def read_positions(pools: Pools, job_ids: Sequence[UUID]) -> list[Position]:
    """One answer an id, in order; `gone` for a final job and where there is no row. Raises LedgerError."""
    rows = await pools.hot.fetch(statement("positions"), list(job_ids))
    known = {row["id"]: structs.replace(to_position(row), type=row["type"]) for row in rows}
    return [known.get(job_id) or gone(job_id) for job_id in job_ids]


def to_position(row: Any) -> Position:
    """The position of one row with the columns of `sql/positions.sql`."""
    match row["status"]:
        case "pending":
            return _waiting(row)
        case "running":
            return Position(
                id=row["id"],
                queue=row["queue_name"],
                tenant_id=row["tenant_id"],
                kind="running",
                lease_ms=row["lease_ms"],
                token=row["claim_token"],
            )
        case _:
            return gone(row["id"], queue=row["queue_name"], tenant_id=row["tenant_id"])


def gone(job_id: UUID, *, queue: str = "", tenant_id: str = "") -> Position:
    """The position of a job that the dispatcher should know nothing of; the queue is empty when unknown."""
    return Position(id=job_id, queue=queue, tenant_id=tenant_id, kind="gone")


def _waiting(row: Any) -> Position:
    aging_ms = DEFAULT_AGING_MS if row["aging_ms"] is None else int(row["aging_ms"])
    return Position(
        id=row["id"],
        queue=row["queue_name"],
        tenant_id=row["tenant_id"],
        kind="waiting",
        score=score(ready_ms=row["ready_ms"], priority=row["priority"], aging_ms=aging_ms),
        due_in_ms=row["due_in_ms"],
        retrying=row["attempt"] > 0,
    )
