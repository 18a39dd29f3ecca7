"""What a submission asks for, and the job that is made of it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from msgspec import UNSET, Struct

from ferryman.core.job import NewJob
from ferryman.core.queues import QueueSettings, TypeSettings, retry_policy
from ferryman.lifecycle.asker import Asker

_NO_WORD = TypeSettings()


class Order(Struct, frozen=True, kw_only=True):
    """A submission whose fields were checked. None leaves a number to queue, handler and seeds; `input` and
    `metadata` are JSON documents; at most one of each pair of times is given.
    """

    type: str
    queue: str
    priority: int
    input: bytes
    metadata: bytes
    tags: list[str]
    unique_key: str | None = None
    max_retries: int | None = None
    retry_delay_ms: int | None = None
    visibility_timeout_ms: int | None = None
    timeout_ms: int | None = None
    delay_ms: int = 0
    run_at: datetime | None = None
    ttl_ms: int | None = None
    expires_at: datetime | None = None


def make_job(order: Order, settings: QueueSettings, asker: Asker, *, id: UUID, tenant_id: str) -> NewJob:
    """The job of an order, its open numbers filled in from the queue's settings."""
    by_type = settings.types.get(order.type, _NO_WORD)
    policy = retry_policy(
        settings, order.type, max_retries=order.max_retries, retry_delay_ms=order.retry_delay_ms
    )
    return NewJob(
        id=id,
        tenant_id=tenant_id,
        user_id=asker.principal.user_id or 0,
        type=order.type,
        queue=order.queue,
        priority=order.priority,
        input=order.input,
        max_retries=policy.max_retries,
        max_retries_given=order.max_retries is not None or by_type.retry.max_retries is not UNSET,
        retry_delay_ms=policy.initial_delay_ms,
        retry_delay_given=order.retry_delay_ms is not None or by_type.retry.initial_delay_ms is not UNSET,
        visibility_timeout_ms=order.visibility_timeout_ms or settings.visibility_timeout_ms,
        timeout_ms=order.timeout_ms or (None if by_type.timeout_ms is UNSET else by_type.timeout_ms),
        run_in_ms=order.delay_ms,
        run_at=order.run_at,
        expires_in_ms=order.ttl_ms,
        expires_at=order.expires_at,
        tags=order.tags,
        metadata=order.metadata,
        unique_key=order.unique_key,
        correlation_id=asker.correlation_id,
        traceparent=asker.traceparent,
    )
