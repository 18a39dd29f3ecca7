"""The settings of a queue, in the words shared by REST, JobQueue and queues file (contract, section 5)."""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, structs

from ferryman.core.priority import DEFAULT_AGING_MS, MAX_AGING_MS
from ferryman.core.retry import DEFAULT_INITIAL_DELAY_MS, DEFAULT_MAX_RETRIES, TYPE_SEEDS, RetryPolicy

# "$" alone would also match before a newline at the end.
QUEUE_NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9_.-]{0,62}(?!\n)$"
TYPE_PATTERN: Final = r"^[A-Za-z0-9._:-]{1,50}(?!\n)$"
DEFAULT_TIMEOUT_MS: Final = 300_000
MAX_TENANTS: Final = 1_000
SYSTEM_PREFIX: Final = "system."
_QUEUE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_TYPE: Final = re.compile(r"[A-Za-z0-9._:-]{1,50}")

TypeName = Annotated[str, Meta(pattern=TYPE_PATTERN, description="1 to 50 of A–Z a–z 0–9 . _ : -")]
QueueName = Annotated[
    str,
    Meta(
        pattern=QUEUE_NAME_PATTERN,
        description="a queue's name: 1 to 63 of a–z 0–9 . _ -, the first a letter or digit",
    ),
]
TenantName = Annotated[
    str,
    Meta(
        pattern=r"^[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]{0,48}[^\s\x00-\x1f\x7f])?(?!\n)$",
        description="a tenant: 1 to 50 printable characters, no space at either end",
    ),
]
Count = Annotated[int, Meta(ge=0, le=100_000_000)]
Retries = Annotated[int, Meta(ge=0, le=100)]
DelayMs = Annotated[int, Meta(ge=0, le=86_400_000)]
VisibilityMs = Annotated[int, Meta(ge=100, le=43_200_000)]
TimeoutMs = Annotated[int, Meta(ge=1, le=86_400_000)]
RetentionMs = Annotated[int, Meta(ge=0, le=315_360_000_000)]
Rate = Annotated[float, Meta(ge=0, le=1_000_000)]
Weight = Annotated[float, Meta(gt=0, le=1_000)]
Multiplier = (
    Annotated[float, Meta(ge=1, le=100)]
    | Annotated[str, Meta(pattern=r"^[0-9]{1,3}(\.[0-9]{1,6})?(?!\n)$", description="the same as text")]
)


class RetrySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A whole retry policy of a queue."""

    max_retries: Retries = DEFAULT_MAX_RETRIES
    initial_delay_ms: DelayMs = DEFAULT_INITIAL_DELAY_MS
    multiplier: Multiplier = 2.0
    max_delay_ms: DelayMs = 60_000
    jitter: bool = True


class TypeRetrySettings(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel", omit_defaults=True
):
    """What a queue says of one type's retries; what is left out comes from the queue."""

    max_retries: Retries | UnsetType = UNSET
    initial_delay_ms: DelayMs | UnsetType = UNSET
    multiplier: Multiplier | UnsetType = UNSET
    max_delay_ms: DelayMs | UnsetType = UNSET
    jitter: bool | UnsetType = UNSET


class TypeSettings(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel", omit_defaults=True
):
    """What a queue says of one type of job."""

    retry: TypeRetrySettings = TypeRetrySettings()
    timeout_ms: TimeoutMs | UnsetType = UNSET


class PerTenant(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Limits of each tenant on a queue; 0 means none. Rates are jobs a second; a rate without a burst lets
    them come one by one. `weight` is a share of worker time beside the others that have work.
    """

    max_concurrency: Count = 0
    rate_per_second: Rate = 0
    burst: Count = 0
    submit_per_second: Rate = 0
    submit_burst: Count = 0
    weight: Weight = 1


class TenantSettings(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel", omit_defaults=True
):
    """What a queue says of one tenant; what is left out comes from `perTenant`."""

    max_concurrency: Count | UnsetType = UNSET
    rate_per_second: Rate | UnsetType = UNSET
    burst: Count | UnsetType = UNSET
    submit_per_second: Rate | UnsetType = UNSET
    submit_burst: Count | UnsetType = UNSET
    weight: Weight | UnsetType = UNSET


class Retention(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """How long rows are kept after the job ended, in milliseconds. Expired jobs follow `cancelled_ms`."""

    completed_ms: RetentionMs = 604_800_000
    cancelled_ms: RetentionMs = 604_800_000
    dead_letter_ms: RetentionMs = 2_592_000_000
    audit_ms: RetentionMs = 7_776_000_000


class QueueSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Everything that can be set of a queue. `max_concurrency` 0 means no limit; durations are milliseconds.

    `dead_letter_queue` None stands for `<queue>_dlq`; `paused` None leaves the state of an existing queue.
    """

    max_size: Annotated[int, Meta(ge=1, le=100_000_000)] = 1_000
    max_backlog: Count = 5_000
    visibility_timeout_ms: VisibilityMs = 30_000
    timeout_ms: TimeoutMs = DEFAULT_TIMEOUT_MS
    dead_letter_queue: QueueName | None = None
    paused: bool | None = None
    priority_aging_ms: Annotated[int, Meta(ge=0, le=MAX_AGING_MS)] = DEFAULT_AGING_MS
    max_concurrency: Count = 0
    per_tenant: PerTenant = PerTenant()
    tenants: Annotated[dict[TenantName, TenantSettings], Meta(max_length=MAX_TENANTS)] = {}
    retry: RetrySettings = RetrySettings()
    types: dict[TypeName, TypeSettings] = {}
    retention: Retention = Retention()

    @property
    def max_waiting(self) -> int:
        """Submission is refused once this many jobs wait."""
        return self.max_size + self.max_backlog


BUILT_IN: Final[dict[str, QueueSettings]] = {
    "default": QueueSettings(dead_letter_queue="default_dlq"),
    "high_priority": QueueSettings(
        max_size=100, max_backlog=500, visibility_timeout_ms=10_000, dead_letter_queue="high_priority_dlq"
    ),
    "background": QueueSettings(
        max_size=5_000, max_backlog=10_000, visibility_timeout_ms=60_000, dead_letter_queue="background_dlq"
    ),
}


def is_queue_name(name: str) -> bool:
    """Whether `name` may name a queue: `[a-z0-9][a-z0-9_.-]{0,62}`."""
    return _QUEUE_NAME.fullmatch(name) is not None


def is_system(name: str) -> bool:
    """Whether only the system itself has jobs in a queue of this name; tenants do not see it."""
    return name.startswith(SYSTEM_PREFIX)


def is_type(name: str) -> bool:
    """Whether `name` may be a type of job: 1 to 50 of `A-Za-z0-9._:-`."""
    return _TYPE.fullmatch(name) is not None


class HandlerSettings(Struct, frozen=True, kw_only=True):
    """What a handler's decorator says of its type; None leaves it to queue and seeds."""

    max_retries: int | None = None
    retry_delay_ms: int | None = None
    timeout_ms: int | None = None


def retry_policy(
    settings: QueueSettings,
    job_type: str,
    *,
    max_retries: int | None = None,
    retry_delay_ms: int | None = None,
    handler: HandlerSettings | None = None,
) -> RetryPolicy:
    """The policy of one job, the strongest word first: the submission's own numbers, then the queue's for the
    type, the handler's decorator, the seed of the type, the queue's.
    """
    handler = handler or HandlerSettings()
    queue, by_type = settings.retry, settings.types.get(job_type, TypeSettings()).retry
    seed_retries, seed_delay = TYPE_SEEDS.get(job_type, (None, None))
    return RetryPolicy(
        max_retries=_first(
            max_retries, by_type.max_retries, handler.max_retries, seed_retries, queue.max_retries
        ),
        initial_delay_ms=_first(
            retry_delay_ms,
            by_type.initial_delay_ms,
            handler.retry_delay_ms,
            seed_delay,
            queue.initial_delay_ms,
        ),
        multiplier=float(queue.multiplier if by_type.multiplier is UNSET else by_type.multiplier),
        max_delay_ms=queue.max_delay_ms if by_type.max_delay_ms is UNSET else by_type.max_delay_ms,
        jitter=queue.jitter if by_type.jitter is UNSET else by_type.jitter,
    )


def timeout_ms(
    settings: QueueSettings, job_type: str, *, given: int | None, handler: HandlerSettings | None = None
) -> int:
    """How long one attempt may run, in milliseconds, the strongest word first as in `retry_policy`."""
    by_type = settings.types.get(job_type, TypeSettings()).timeout_ms
    return _first(given, by_type, (handler or HandlerSettings()).timeout_ms, settings.timeout_ms)


def tenant_limits(settings: QueueSettings, tenant_id: str) -> PerTenant:
    """What holds for one tenant: the queue's word on it, and for what that leaves out, on each."""
    own = settings.tenants.get(tenant_id)
    if own is None:
        return settings.per_tenant
    given = {name: value for name, value in structs.asdict(own).items() if value is not UNSET}
    return structs.replace(settings.per_tenant, **given)


def _first(*candidates: int | UnsetType | None) -> int:
    return next(c for c in candidates if c is not None and c is not UNSET)


def encode(settings: QueueSettings) -> bytes:
    """The JSON document that the ledger keeps; `decode` reads it back."""
    return _ENCODER.encode(settings)


def decode(document: bytes | str) -> QueueSettings:
    """Settings from their JSON document. Raises `msgspec.ValidationError` naming the first bad field."""
    return _DECODER.decode(document)


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(QueueSettings)
