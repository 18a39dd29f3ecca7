"""The relay: what happened to tenants' jobs becomes jobs that tell their endpoints, each exactly once.

A tenant's cursor moves in the transaction that stores the deliveries, so that neither is there without the
other; and the id of a delivery follows from its event and endpoint, so that no second one can be stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from ferryman.core.job import Actor, ActorKind, NewJob, Position
from ferryman.core.queues import QueueSettings, decode, retry_policy
from ferryman.core.webhooks import (
    DELIVERY_TYPE,
    WEBHOOK_QUEUE,
    Relayed,
    delivery_id,
    delivery_tenant,
    event_document,
)
from ferryman.failpoints import reach
from ferryman.ledger.pool import Held, Pools
from ferryman.ledger.statements import statement
from ferryman.ledger.submissions import MAX_BATCH, Submission, insert_children
from ferryman.ledger.writes import transact

ROWS_OF_A_TENANT: Final = 100
TENANTS: Final = 20
_ACTOR: Final = Actor(kind=ActorKind.MAINTAINER, id="webhooks")
_PLACE: Final = ("tenant_id", "old_xid", "old_id", "xid", "audit_id")


async def relay(pools: Pools) -> Relayed:
    """One step: a bounded number of audit rows. It writes nothing while there is none. Raises LedgerError."""
    rows = await pools.hot.fetch(statement("read_relay"), ROWS_OF_A_TENANT, TENANTS)
    if not rows:
        return Relayed(read=0, positions=[])
    record = (await pools.hot.fetch(statement("get_queues"), WEBHOOK_QUEUE))[0]
    settings = decode(record["settings"])
    # Rows come in order, so the last one of a tenant is how far its cursor moves.
    ends = {row["tenant_id"]: [row[name] for name in _PLACE] for row in rows}

    async def run(connection: Held) -> list[Position]:
        places = [list(column) for column in zip(*ends.values(), strict=True)]
        rows_moved = await connection.fetch(statement("move_webhook_cursors"), *places)
        moved = {row["tenant_id"] for row in rows_moved}
        reach("maintainer.in_relay")
        wanted = [row for row in rows if row["webhook_id"] is not None and row["tenant_id"] in moved]
        return await _store(connection, [_delivery(row, settings) for row in wanted])

    return Relayed(read=len(rows), positions=await transact(pools, run))


async def _store(connection: Held, jobs: Sequence[NewJob]) -> list[Position]:
    positions: list[Position] = []
    for start in range(0, len(jobs), MAX_BATCH):
        batch = [Submission(job, _ACTOR) for job in jobs[start : start + MAX_BATCH]]
        positions += await insert_children(connection, batch)
    return positions


def _delivery(row: Any, settings: QueueSettings) -> NewJob:
    """The job that brings one event to one endpoint."""
    event = event_document(
        {
            **row,
            "details": None if row["details"] is None else msgspec.json.decode(row["details"]),
            "metadata": None if row["metadata"] is None else msgspec.json.decode(row["metadata"]),
        }
    )
    policy = retry_policy(settings, DELIVERY_TYPE)
    webhook_id = str(row["webhook_id"])
    names = {"webhookId": webhook_id, "event": event["event"], "eventId": event["eventId"]}
    return NewJob(
        id=delivery_id(row["webhook_id"], row["audit_id"]),
        tenant_id=delivery_tenant(row["tenant_id"]),
        user_id=0,
        type=DELIVERY_TYPE,
        queue=WEBHOOK_QUEUE,
        input=msgspec.json.encode({"webhookId": webhook_id, "event": event}),
        max_retries=policy.max_retries,
        retry_delay_ms=policy.initial_delay_ms,
        visibility_timeout_ms=settings.visibility_timeout_ms,
        metadata=msgspec.json.encode({**names, "jobId": str(row["job_id"])}),
        correlation_id=row["correlation_id"] or event["eventId"],
        traceparent=row["traceparent"],
    )
