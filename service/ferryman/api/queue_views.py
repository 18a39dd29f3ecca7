"""What the calls about queues, figures and upkeep answer, and the service's own state."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ferryman.api.views import Shape, Time
from ferryman.core.queues import PerTenant, Retention, RetrySettings, TenantSettings, TypeSettings
from ferryman.lifecycle.figures import QueueStatus
from ferryman.ports import QueueRecord, RetentionResult


class QuantilesView(Shape):
    p50: float | None
    p95: float | None
    p99: float | None


class StatsView(Shape):
    """Figures of a window; rates are fractions of the jobs that ended in it."""

    from_: Time = msgspec.field(name="from")
    to: Time
    counts: dict[str, int]
    success_rate: float | None
    failure_rate: float | None
    retries: int
    dead_letters: int
    wait_ms: QuantilesView
    processing_ms: QuantilesView
    throughput_per_second: float


class WorkersView(Shape):
    count: int
    slots: int
    busy: int


class TotalsView(Shape):
    arrivals: int
    completions: int
    failures: int
    service_ms: int


class QueueStatusView(Shape):
    queue: str
    paused: bool
    size: int
    backlog: int
    pending: int
    scheduled: int
    retrying: int
    running: int
    dead_letters: int
    oldest_pending_age_ms: int | None
    due_within_ms: dict[str, int]
    max_size: int
    max_backlog: int
    visibility_timeout_ms: int
    dead_letter_queue: str
    workers: WorkersView
    totals: TotalsView
    running_elapsed_ms: int
    asleep: bool
    source: Literal["redis", "ledger"]


class QueueStatusesView(Shape):
    queues: list[QueueStatusView]


class QueueView(Shape):
    """A queue and its settings, as PUT takes them. Who may not change it sees of `tenants` its own entry."""

    queue: str
    max_size: int
    max_backlog: int
    visibility_timeout_ms: int
    timeout_ms: int
    dead_letter_queue: str
    paused: bool
    priority_aging_ms: int
    max_concurrency: int
    per_tenant: PerTenant
    tenants: dict[str, TenantSettings]
    retry: RetrySettings
    types: dict[str, TypeSettings]
    retention: Retention


class QueuesView(Shape):
    queues: list[QueueView]


class RetentionView(Shape):
    """How many rows went, or would go."""

    dry_run: bool
    completed: int
    cancelled: int
    expired: int
    dead_letters: int
    audit: int


class RedriveView(Shape):
    requeued: int
    skipped: int
    remaining: int


class DependencyView(Shape):
    state: Literal["up", "down", "wrong"]
    details: dict[str, Any]


class ReadinessView(Shape):
    """`degraded`: jobs are still taken, but nothing dispatches them but the ledger."""

    status: Literal["ready", "degraded", "unavailable"]
    version: str
    dependencies: dict[str, DependencyView]


class LivenessView(Shape):
    status: Literal["ok"]
    version: str


def status_view(status: QueueStatus) -> QueueStatusView:
    """The figures of a queue in answers."""
    settings, counts, ledger = status.record.settings, status.counts, status.ledger
    return QueueStatusView(
        queue=status.record.name,
        paused=status.record.paused,
        size=status.size,
        backlog=status.waiting - status.size,
        pending=counts.pending,
        scheduled=counts.scheduled,
        retrying=counts.retrying,
        running=counts.running,
        dead_letters=ledger.dead_letters,
        oldest_pending_age_ms=ledger.oldest_pending_age_ms,
        due_within_ms={str(horizon): jobs for horizon, jobs in ledger.due_within_ms.items()},
        max_size=settings.max_size,
        max_backlog=settings.max_backlog,
        visibility_timeout_ms=settings.visibility_timeout_ms,
        dead_letter_queue=_dead_letter_queue(status.record),
        workers=WorkersView(count=ledger.workers, slots=ledger.slots, busy=status.busy),
        totals=TotalsView(
            arrivals=ledger.arrivals,
            completions=ledger.completions,
            failures=ledger.failures,
            service_ms=ledger.service_ms,
        ),
        running_elapsed_ms=ledger.running_elapsed_ms,
        asleep=status.is_asleep,
        source=status.source,
    )


def queue_view(record: QueueRecord) -> QueueView:
    """A queue in answers."""
    settings = msgspec.structs.asdict(record.settings) | {
        "paused": record.paused,
        "dead_letter_queue": _dead_letter_queue(record),
    }
    return QueueView(queue=record.name, **settings)


def retention_view(result: RetentionResult, *, dry_run: bool) -> RetentionView:
    """What retention did, in answers."""
    return RetentionView(dry_run=dry_run, **msgspec.structs.asdict(result))


def _dead_letter_queue(record: QueueRecord) -> str:
    return record.settings.dead_letter_queue or f"{record.name}_dlq"
