"""What the calls take: bodies and query parameters, one struct each, with the bounds of contract, section 10.

An explicit null is the same as an absent field.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from ferryman.api.fields import got
from ferryman.api.problems import FieldError, invalid
from ferryman.core.addresses import MAX_URL_CHARS
from ferryman.core.failures import ErrorClass
from ferryman.core.priority import MAX_PRIORITY, MIN_PRIORITY
from ferryman.core.queues import DelayMs, QueueName, Retries, TimeoutMs, TypeName, VisibilityMs
from ferryman.core.retry import MAX_DELAY_MS
from ferryman.core.status import JobStatus
from ferryman.core.webhooks import EventName, WebhookSettings
from ferryman.lifecycle.event_filters import EventFilter
from ferryman.lifecycle.orders import Order

MAX_TTL_MS: Final = 315_360_000_000
_TEN_YEARS: Final = timedelta(days=3_653)  # as calendars count them, with three leap days
MAX_METADATA_BYTES: Final = 8_192
MAX_BULK: Final = 1_000
MAX_WAIT_MS: Final = 300_000
MAX_STATUS_WAIT_MS: Final = 60_000

Priority = Annotated[int, Meta(ge=MIN_PRIORITY, le=MAX_PRIORITY)]
AheadMs = Annotated[int, Meta(ge=0, le=MAX_DELAY_MS)]
TtlMs = Annotated[int, Meta(ge=1, le=MAX_TTL_MS)]
Instant = Annotated[datetime, Meta(tz=True)]
Tag = Annotated[str, Meta(min_length=1, max_length=64)]
Tags = Annotated[list[Tag], Meta(max_length=32)]
MetadataKey = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}(?!\n)$", description="1 to 64 of A–Z a–z 0–9 _ . -")
]
Fingerprint = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}(?!\n)$", description="16 hex digits")]
Metadata = Annotated[dict[MetadataKey, str | int | float | bool], Meta(max_length=32)]
UniqueKey = Annotated[str, Meta(min_length=1, max_length=200)]
AgeMs = Annotated[int, Meta(ge=0, le=MAX_TTL_MS)]
Limit = Annotated[int, Meta(ge=1, le=200)]
UserId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Cursor = str

_ENCODER: Final = msgspec.json.Encoder()
_NULL: Final = Raw(b"null")


class JobSubmission(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """One job to be submitted. `message` is the short form of an `input` with nothing else in it."""

    type: TypeName
    input: Annotated[Raw, Meta(extra_json_schema={"type": ["object", "null"]})] = msgspec.field(
        default_factory=lambda: _NULL  # a plain default could not be shown in the schema
    )
    message: str | None = None
    queue: QueueName | None = None
    priority: Priority | None = None
    max_retries: Retries | None = None
    retry_delay_ms: DelayMs | None = None
    visibility_timeout_ms: VisibilityMs | None = None
    timeout_ms: TimeoutMs | None = None
    delay_ms: AheadMs | None = None
    run_at: Instant | None = None
    ttl_ms: TtlMs | None = None
    expires_at: Instant | None = None
    tags: Tags | None = None
    metadata: Metadata | None = None
    unique_key: UniqueKey | None = None


class BulkSubmission(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Jobs that are submitted together, all or none."""

    jobs: Annotated[list[JobSubmission], Meta(min_length=1, max_length=MAX_BULK)]


def order_of(submission: JobSubmission, *, now: datetime) -> Order:
    """The order of one submission. Raises Problem, naming every field that does not go with the others."""
    metadata = _ENCODER.encode(submission.metadata) if submission.metadata else b"{}"
    if (
        submission.input is not _NULL
        or submission.run_at is not None
        or submission.ttl_ms is not None
        or submission.expires_at is not None
        or len(metadata) > MAX_METADATA_BYTES
    ) and (errors := list(_conflicts(submission, metadata, now))):
        raise invalid(*errors)
    return _order(submission, metadata)


def orders_of(bulk: BulkSubmission, *, now: datetime) -> list[Order]:
    """The orders of a bulk call. Raises Problem."""
    orders: list[Order] = []
    errors: list[FieldError] = []
    for index, submission in enumerate(bulk.jobs):
        metadata = _ENCODER.encode(submission.metadata) if submission.metadata else b"{}"
        errors.extend(
            FieldError(f"jobs[{index}].{error.path}", error.message)
            for error in _conflicts(submission, metadata, now)
        )
        if not errors:
            orders.append(_order(submission, metadata))
    if errors:
        raise invalid(*errors[:50])
    return orders


def _order(submission: JobSubmission, metadata: bytes) -> Order:
    return Order(
        type=submission.type,
        queue=submission.queue or "default",
        priority=submission.priority or 0,
        input=_input(submission),
        metadata=metadata,
        tags=submission.tags or [],
        unique_key=submission.unique_key,
        max_retries=submission.max_retries,
        retry_delay_ms=submission.retry_delay_ms,
        visibility_timeout_ms=submission.visibility_timeout_ms,
        timeout_ms=submission.timeout_ms,
        delay_ms=submission.delay_ms or 0,
        run_at=submission.run_at,
        ttl_ms=submission.ttl_ms,
        expires_at=submission.expires_at,
    )


def _input(submission: JobSubmission) -> bytes:
    raw = bytes(submission.input)
    if raw != b"null":
        return raw
    return b"{}" if submission.message is None else _ENCODER.encode({"message": submission.message})


def _conflicts(submission: JobSubmission, metadata: bytes, now: datetime) -> Iterator[FieldError]:
    raw = bytes(submission.input)
    if raw != b"null":
        if not raw.startswith(b"{"):
            yield FieldError("input", f"takes an object; got {got(msgspec.json.decode(raw))}")
        if submission.message is not None:
            yield FieldError("message", "stands for an input; give one of message and input")
    if submission.delay_ms is not None and submission.run_at is not None:
        yield FieldError("runAt", "give one of delayMs and runAt")
    if submission.ttl_ms is not None and submission.expires_at is not None:
        yield FieldError("expiresAt", "give one of ttlMs and expiresAt")
    yield from _wrong_times(submission, now)
    if len(metadata) > MAX_METADATA_BYTES:
        yield FieldError("metadata", f"takes at most {MAX_METADATA_BYTES} bytes of JSON; got {len(metadata)}")


def _wrong_times(submission: JobSubmission, now: datetime) -> Iterator[FieldError]:
    for name, at in (("runAt", submission.run_at), ("expiresAt", submission.expires_at)):
        if at is not None and at > now + _TEN_YEARS:
            yield FieldError(name, f"takes a time within ten years; got {at.isoformat()}")
    if submission.expires_at is not None and submission.expires_at <= now:
        yield FieldError("expiresAt", f"takes a time to come; got {submission.expires_at.isoformat()}")


class NoFields(Struct, frozen=True, forbid_unknown_fields=True):
    """A body that says nothing."""


class RetentionOrder(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Which policies to apply. Without `queue`: those of all queues."""

    queue: QueueName | None = None
    dry_run: bool | None = None


class ReconcileOrder(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Which dead letters to requeue. Ages count from the failure, in milliseconds."""

    queue: QueueName | None = None
    type: TypeName | None = None
    error_class: ErrorClass | list[ErrorClass] | None = None
    fingerprint: Fingerprint | None = None
    older_than_ms: AgeMs | None = None
    newer_than_ms: AgeMs | None = None
    batch_size: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    dry_run: bool | None = None
    digest: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    rate_per_second: Annotated[float, Meta(gt=0, le=10_000)] | None = None
    reset_retries: bool | None = None
    max_redrives: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None


class WebhookOrder(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """An endpoint: where it is, and what it wants to hear of. An empty list leaves that filter open."""

    url: Annotated[str, Meta(min_length=1, max_length=MAX_URL_CHARS, description="an absolute https:// URL")]
    events: Annotated[list[EventName], Meta(max_length=50)] | None = None
    queues: Annotated[list[QueueName], Meta(max_length=50)] | None = None
    types: Annotated[list[TypeName], Meta(max_length=50)] | None = None
    enabled: bool | None = None


def webhook_settings(order: WebhookOrder) -> WebhookSettings:
    """What an order says, with the defaults for what it leaves out."""
    return WebhookSettings(
        url=order.url,
        events=order.events or [],
        queues=order.queues or [],
        types=order.types or [],
        enabled=order.enabled is not False,
    )


# ----------------------------------------------------------------------------------------------- queries


class NoParameters(Struct, frozen=True):
    """A call without parameters."""


class JobsQuery(Struct, frozen=True, kw_only=True, rename="camel"):
    """Which jobs, and which page of them. Lists are alternatives; tags and metadata must all hold."""

    status: list[JobStatus] = []
    type: list[TypeName] = []
    queue: list[QueueName] = []
    tag: list[Tag] = []
    user_id: list[UserId] = []
    created_after: Instant | UnsetType = UNSET
    created_before: Instant | UnsetType = UNSET
    metadata: dict[MetadataKey, str] = {}
    limit: Limit = 50
    cursor: Cursor | UnsetType = UNSET


class HistoryQuery(Struct, frozen=True, kw_only=True, rename="camel"):
    """Which page of a history."""

    limit: Annotated[int, Meta(ge=1, le=1_000)] = 500
    cursor: Cursor | UnsetType = UNSET


class AuditQuery(Struct, frozen=True, kw_only=True, rename="camel"):
    """Whose deeds, which, on what and when (`from` is included, `to` is not), and which page of them."""

    actor: Annotated[str, Meta(min_length=1, max_length=100)] | UnsetType = UNSET
    action: (
        Annotated[str, Meta(pattern=r"^[a-z_]{1,40}(?!\n)$", description="an action's name")] | UnsetType
    ) = UNSET
    job_id: UUID | UnsetType = UNSET
    queue: QueueName | UnsetType = UNSET
    from_: Instant | UnsetType = msgspec.field(name="from", default=UNSET)
    to: Instant | UnsetType = UNSET
    limit: Limit = 50
    cursor: Cursor | UnsetType = UNSET


class EventsQuery(Struct, frozen=True, kw_only=True, rename="camel"):
    """Which events, as in the list of jobs; behind which one; and whether a flood may be cut short."""

    status: list[JobStatus] = []
    type: list[TypeName] = []
    queue: list[QueueName] = []
    tag: list[Tag] = []
    user_id: list[UserId] = []
    job_id: list[UUID] = []
    after: Annotated[str, Meta(pattern=r"^[0-9a-f]{48}(?!\n)$", description="an eventId")] | UnsetType = UNSET
    coalesce: bool = True


class Subscription(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Which events, as in the list of jobs."""

    status: list[JobStatus] = []
    type: list[TypeName] = []
    queue: list[QueueName] = []
    tag: list[Tag] = []
    user_id: list[UserId] = []
    job_id: list[UUID] = []


class Hello(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Who reads, and behind which event it goes on."""

    token: str
    last_event_id: str | None = None


class Renewal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A token for the time after the present one."""

    token: str


class StreamMessage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What a reader of events may say on a WebSocket."""

    hello: Hello | None = None
    renew: Renewal | None = None
    subscribe: Subscription | None = None
    unsubscribe: Subscription | None = None


def event_filter(wanted: EventsQuery | Subscription) -> EventFilter:
    """The filter of a stream."""
    return EventFilter(
        statuses=frozenset(wanted.status),
        types=frozenset(wanted.type),
        queues=frozenset(wanted.queue),
        tags=frozenset(wanted.tag),
        user_ids=frozenset(wanted.user_id),
        job_ids=frozenset(str(job_id) for job_id in wanted.job_id),
    )


class WaitQuery(Struct, frozen=True, kw_only=True, rename="camel"):
    """How long to hold the answer, in milliseconds."""

    timeout_ms: Annotated[int, Meta(ge=0, le=MAX_WAIT_MS)] = 30_000


class StatsParameters(Struct, frozen=True, kw_only=True, rename="camel"):
    """Of which window (the last 24 hours), queue and type."""

    from_: Instant | UnsetType = msgspec.field(name="from", default=UNSET)
    to: Instant | UnsetType = UNSET
    queue: QueueName | UnsetType = UNSET
    type: TypeName | UnsetType = UNSET


class StatusQuery(Struct, frozen=True, kw_only=True, rename="camel"):
    """Which queue, and how long to hold the answer while it sleeps, in milliseconds."""

    queue: QueueName | UnsetType = UNSET
    wait: Annotated[int, Meta(ge=0, le=MAX_STATUS_WAIT_MS)] = 0


class LettersQuery(Struct, frozen=True, kw_only=True, rename="camel"):
    """Which dead letters, and which page of them. `status` any: closed ones, too."""

    queue: QueueName | UnsetType = UNSET
    type: TypeName | UnsetType = UNSET
    error_class: list[ErrorClass] = []
    fingerprint: Fingerprint | UnsetType = UNSET
    status: Literal["dead", "requeued", "discarded", "any"] = "dead"
    older_than_ms: AgeMs | UnsetType = UNSET
    newer_than_ms: AgeMs | UnsetType = UNSET
    limit: Limit = 50
    cursor: Cursor | UnsetType = UNSET


class DeliveriesQuery(Struct, frozen=True, kw_only=True, rename="camel"):
    """Which page of an endpoint's deliveries."""

    limit: Limit = 50
    cursor: Cursor | UnsetType = UNSET


def given(value: Any) -> Any:
    """A parameter, or None when it was left out."""
    return None if value is UNSET else value
