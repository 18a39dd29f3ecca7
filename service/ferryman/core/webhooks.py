"""Webhooks: which endpoint hears of which events, and the jobs that carry them there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from msgspec import Meta, Struct

from ferryman.core.ids import uuid7
from ferryman.core.job import Position
from ferryman.core.status import Action, JobStatus

WEBHOOK_QUEUE: Final = "system.webhooks"
DELIVERY_TYPE: Final = "webhook.delivery"
MAX_WEBHOOKS: Final = 20
MAX_BODY_BYTES: Final = 65_536
# A secret that was replaced holds for a day more, so that receivers can change over at leisure.
OVERLAP_MS: Final = 86_400_000
# An endpoint is given up after so many failures in a row, once they have gone on for so long.
MAX_FAILURES: Final = 20
FAILING_MS: Final = 3_600_000

EventName = Annotated[
    str,
    Meta(
        pattern=rf"^job\.({'|'.join(Action)})(?!\n)$",
        description=f"one of {', '.join(f'job.{action}' for action in Action)}",
    ),
]
DisabledReason = Literal["gone", "failing"]


class WebhookSettings(Struct, frozen=True, kw_only=True):
    """What an admin says of an endpoint. An empty list leaves that filter open."""

    url: str
    events: list[str]
    queues: list[str]
    types: list[str]
    enabled: bool


class Webhook(Struct, frozen=True, kw_only=True):
    """An endpoint of a tenant. `failures` in a row since `failing_since`; `disabled_reason` says why Ferryman
    itself disabled it. `previous_secret_until`: the secret before the present one holds until then.
    """

    id: UUID
    tenant_id: str
    url: str
    events: list[str]
    queues: list[str]
    types: list[str]
    enabled: bool
    disabled_reason: DisabledReason | None
    disabled_at: datetime | None
    failures: int
    failing_since: datetime | None
    previous_secret_until: datetime | None
    created_at: datetime
    updated_at: datetime


class WebhookTarget(Struct, frozen=True, kw_only=True):
    """Where a delivery goes, with every secret that holds, the newest first."""

    tenant_id: str
    url: str
    enabled: bool
    secrets: list[str]


class Delivery(Struct, frozen=True, kw_only=True):
    """One event on its way to one endpoint. `response_code` is that of the latest attempt that got one."""

    id: UUID
    event: str
    event_id: str
    job_id: str
    status: JobStatus
    attempts: int
    response_code: int | None
    error: str | None
    created_at: datetime
    updated_at: datetime
    run_at: datetime


class Relayed(Struct, frozen=True, kw_only=True):
    """One step of the relay: how many audit rows it read, and where the deliveries it made belong."""

    read: int
    positions: list[Position]


def delivery_tenant(tenant_id: str) -> str:
    """In whose name a tenant's deliveries run: each tenant's apart from the others', so that a slow endpoint
    costs its own tenant alone, and none that a token can carry, for no tenant's name begins with a space.
    """
    return f" {hashlib.sha256(tenant_id.encode()).hexdigest()[:40]}"


def delivery_id(webhook_id: UUID, event_id: UUID) -> UUID:
    """The id of the one delivery of this event to this endpoint. It sorts by the time of the event."""
    digest = hashlib.sha256(webhook_id.bytes + event_id.bytes).digest()
    return uuid7(event_id.int >> 80, digest[:10])


def event_document(row: Mapping[str, Any]) -> dict[str, Any]:
    """The body of an event: a summary of the job, without its input and output. `row` has the columns of
    `sql/read_relay.sql`; what only the job's row knew is null once that is pruned.
    """
    details: Mapping[str, Any] = row["details"] or {}
    return {
        "eventId": str(row["audit_id"]),
        "event": f"job.{row['action']}",
        "at": row["at"],
        "tenantId": row["tenant_id"],
        "job": {
            "jobId": str(row["job_id"]),
            "type": row["job_type"],
            "queue": row["queue_name"],
            "fromStatus": row["from_status"],
            "status": row["to_status"],
            "attempt": row["attempt"],
            "userId": row["user_id"],
            "priority": row["priority"],
            "tags": row["tags"],
            "metadata": row["metadata"],
            "createdAt": row["created_at"],
            "correlationId": row["correlation_id"],
            "traceId": row["trace_id"],
            "waitMs": details.get("waitMs"),
            "runMs": details.get("runMs"),
            "nextDelayMs": details.get("delayMs"),
            "error": details.get("error"),
        },
    }
