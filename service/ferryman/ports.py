"""What the inside needs from the outside: a ledger, a dispatcher, a clock and dice.

`api`, `worker`, `maintainer` and `lifecycle` know PostgreSQL and Redis only as these protocols.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Generic, Literal, Protocol, TypeVar
from uuid import UUID

from msgspec import Struct

from ferryman.core.events import Mark
from ferryman.core.job import (
    Actor,
    Beat,
    BeatAnswer,
    Claimed,
    DeadLetterRecord,
    Inserted,
    Job,
    NewJob,
    Position,
    Settlement,
)
from ferryman.core.queues import QueueSettings
from ferryman.core.rates import Taken, Toll
from ferryman.core.status import JobStatus
from ferryman.core.webhooks import Delivery, Relayed, Webhook, WebhookSettings, WebhookTarget

T = TypeVar("T")

Dice = Callable[[], float]
"""Uniform in [0, 1)."""


class Clock(Protocol):
    """Local time. Decisions about jobs use the ledger's clock; this one measures and logs."""

    def now(self) -> datetime:
        """An aware UTC instant."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start that never run back."""


# ---------------------------------------------------------------------------------------------- errors


class LedgerError(Exception):
    """Base of what the ledger raises; messages hold no values and no connection strings."""


class LedgerUnavailableError(LedgerError):
    """The ledger cannot be reached or did not answer in time. Nothing was accepted."""


class OutcomeUnknownError(LedgerError):
    """The connection was lost at COMMIT and asking again did not help: the jobs may or may not exist."""

    def __init__(self, job_ids: Sequence[UUID]) -> None:
        super().__init__("the ledger did not say whether the submission was stored")
        self.job_ids = tuple(job_ids)


class RejectedDataError(LedgerError):
    """PostgreSQL refused a value of this one row (SQLSTATE class 22 or 23)."""


class QueryTooExpensiveError(LedgerError):
    """A read ran into its statement timeout: the filter must be narrower."""


class UnknownQueueError(LedgerError):
    """There is no such queue."""

    def __init__(self, queue: str) -> None:
        super().__init__(f"there is no queue {queue!r}")
        self.queue = queue


class QueueNotEmptyError(LedgerError):
    """The queue still has unfinished jobs."""


class QueueFullError(Exception):
    """As many jobs wait as `maxSize` + `maxBacklog` allow."""

    def __init__(self, queue: str, *, limit: int, retry_after_ms: int) -> None:
        super().__init__(f"queue {queue!r} holds {limit} waiting jobs, which is its limit")
        self.queue = queue
        self.limit = limit
        self.retry_after_ms = retry_after_ms


class DispatcherUnavailableError(Exception):
    """Redis cannot be reached, is read-only or did not answer in time. The ledger goes on without it."""


# ---------------------------------------------------------------------------------------------- ledger

CancelResult = Literal["cancelled", "requested", "already_final", "not_found"]
RetryResult = Literal["hurried", "requeued", "not_retryable", "twin_unfinished", "not_found"]
RequeueResult = Literal["requeued", "not_dead", "twin_unfinished", "not_found"]


class Scope(Struct, frozen=True, kw_only=True):
    """Whose rows may be touched: one tenant's, or one user's of it; tenant None means every tenant."""

    tenant_id: str | None
    user_id: int | None = None


class JobFilter(Struct, frozen=True, kw_only=True):
    """The filters of `GET /api/jobs`. Lists are alternatives; fields, tags and metadata must all hold."""

    statuses: tuple[JobStatus, ...] = ()
    types: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    user_ids: tuple[int, ...] = ()
    metadata: Mapping[str, str] = {}
    created_after: datetime | None = None
    created_before: datetime | None = None


class Page(Struct, Generic[T], frozen=True):
    """Rows of one page and the id to go on after; None on the last page."""

    rows: list[T]
    next_after: UUID | None


class JobStore(Protocol):
    """Jobs as users know them."""

    async def insert(self, job: NewJob, actor: Actor) -> Inserted:
        """Store one job durably; concurrent calls share a statement and a COMMIT.

        Raises RejectedDataError for this job alone, LedgerUnavailableError (nothing stored),
        OutcomeUnknownError.
        """

    async def insert_all(self, jobs: Sequence[NewJob], actor: Actor) -> list[Inserted]:
        """Store all or none, in order. Raises as `insert`."""

    async def get(self, scope: Scope, job_id: UUID) -> Job | None:
        """The job, or None when the scope has no such job."""

    async def find(self, scope: Scope, wanted: JobFilter, *, limit: int, after: UUID | None) -> Page[Job]:
        """Newest first, strictly older than `after`. Raises QueryTooExpensiveError."""

    async def get_with_attempts(
        self, scope: Scope, job_id: UUID
    ) -> tuple[Job, list[Mapping[str, object]]] | None:
        """The job and each of its attempts, oldest first, in the shape REST shows."""

    async def history(
        self, scope: Scope, job_id: UUID, *, limit: int, after: UUID | None
    ) -> Page[Mapping[str, object]]:
        """Audit rows of the job, oldest first, in the shape REST shows."""

    async def cancel(self, scope: Scope, job_id: UUID, actor: Actor) -> tuple[CancelResult, Position | None]:
        """End a waiting job now, or ask a running one to stop."""

    async def retry(self, scope: Scope, job_id: UUID, actor: Actor) -> tuple[RetryResult, Position | None]:
        """Run a retrying job now, or requeue a dead-lettered one.

        `twin_unfinished`: an unfinished job holds the same unique key. Raises UnknownQueueError when the
        queue of a dead-lettered job was deleted.
        """

    async def positions(self, job_ids: Sequence[UUID]) -> list[Position]:
        """Where these jobs belong in the dispatcher, one answer an id, `gone` when there is no row."""

    async def statuses(self, job_ids: Sequence[UUID]) -> Mapping[UUID, JobStatus]:
        """The stored statuses of these jobs, whosever they are; an id without a row is left out. What held
        requests are woken by, so one cheap statement.
        """


class AttemptStore(Protocol):
    """Attempts as workers know them. Every write is fenced by the claim's token."""

    async def claim(
        self, worker_id: str, wanted: Sequence[tuple[UUID, UUID]], *, queue: str, types: Sequence[str]
    ) -> list[Claimed]:
        """Claim (job id, new token) pairs that the dispatcher suggested, of this queue and these types only.

        A type that the worker does not know waits untouched, and whatever Redis says, nobody gets the jobs of
        another queue. An id that does not come back was not claimable: resync it.
        """

    async def claim_ready(
        self, worker_id: str, queue: str, tokens: Sequence[UUID], *, types: Sequence[str]
    ) -> list[Claimed]:
        """Claim up to one ready job a token straight from the ledger, in order, of these types only: Redis is
        away.
        """

    async def isolate(self, job_id: UUID, token: UUID) -> bool:
        """Note that this attempt now has its worker to itself. False: the lease was lost."""

    async def report_progress(
        self, job_id: UUID, token: UUID, *, percent: float | None, note: str | None, cursor: bytes | None
    ) -> bool:
        """Store progress and cursor of a running attempt. False: the lease was lost."""

    async def settle(self, worker_id: str, settlements: Sequence[Settlement]) -> list[Position]:
        """End attempts, children inserted with them. One answer for each that still held its token, in no
        order; children's positions are among them. One that is missing lost its lease: report, drop.
        """

    async def beat(self, beat: Beat) -> BeatAnswer:
        """A sign of life, and three more visibility timeouts for each held attempt."""

    async def leave(self, worker_id: str) -> None:
        """The worker has stopped and holds nothing."""


class Upkeep(Protocol):
    """What the maintainer asks of the ledger. Each call is bounded by `limit` and may be repeated."""

    async def lead(self, role: str, holder: str, *, for_ms: int) -> bool:
        """Take or keep the leadership of a role; False when somebody else holds it."""

    async def resign(self, role: str, holder: str) -> None:
        """Give up the leadership of a role."""

    async def reap(self, lost: Sequence[tuple[UUID, UUID]]) -> list[Position]:
        """End these (job id, token) leases whose visibility timeout passed in the dispatcher, unless the
        ledger has heard from their worker's attempt since. Answers for each id where it belongs now.
        """

    async def reap_expired(self, *, steady_ms: int, limit: int) -> list[Position]:
        """End leases that ran out in the ledger. `steady_ms`: how long the ledger has been reachable without
        a break; leases whose visibility timeout is longer than that are left until workers could beat.
        """

    async def reap_lost_workers(self, *, silent_ms: int, limit: int) -> list[Position]:
        """End the leases of workers that have not beaten for `silent_ms`, and forget those without any."""

    async def expire(self, *, limit: int) -> list[Position]:
        """Waiting jobs past `expires_at` end as expired."""

    async def waiting(self, queue: str, *, after: UUID | None, limit: int) -> list[Position]:
        """Waiting and running jobs of a queue in id order: what a rebuild of the dispatcher copies."""

    async def recently_ready(self, queue: str, *, within_ms: int, limit: int) -> list[Position]:
        """Waiting jobs that became ready within the last `within_ms`: what a sweep compares."""

    async def take_arrivals(self, *, limit: int) -> list[Position]:
        """Where jobs belong that `ferryman.enqueue` stored in other applications' transactions. What is
        taken and not dropped is answered again after some seconds.
        """

    async def drop_arrivals(self, job_ids: Sequence[UUID]) -> None:
        """These have been pushed."""

    async def make_partitions(self) -> None:
        """Make the audit's day partitions for the week ahead."""


class QueueRecord(Struct, frozen=True, kw_only=True):
    """A queue as the ledger has it; `version` grows with each change."""

    name: str
    settings: QueueSettings
    paused: bool
    version: int


class QueueStore(Protocol):
    """Queues and their settings."""

    async def get(self, name: str) -> QueueRecord | None: ...

    async def all(self) -> list[QueueRecord]: ...

    async def put(self, name: str, settings: QueueSettings, actor: Actor) -> tuple[QueueRecord, bool]:
        """Create or replace; True when it was created. `settings.paused` None leaves the state."""

    async def delete(self, name: str, actor: Actor) -> bool:
        """False when there is none. Raises QueueNotEmptyError."""

    async def set_paused(self, name: str, paused: bool, actor: Actor) -> QueueRecord | None: ...


class QueueFigures(Struct, frozen=True, kw_only=True):
    """Counts of one queue at one instant. `waiting_by_tenant` sums pending, scheduled and retrying."""

    pending: int
    scheduled: int
    retrying: int
    running: int


class LedgerFigures(Struct, frozen=True, kw_only=True):
    """What only the ledger knows of a queue. Ages and sums in milliseconds, as of the ledger's clock."""

    dead_letters: int
    oldest_pending_age_ms: int | None
    due_within_ms: Mapping[int, int]
    running_elapsed_ms: int
    workers: int
    slots: int
    busy: int
    arrivals: int
    completions: int
    failures: int
    service_ms: int


class Crew(Struct, frozen=True, kw_only=True):
    """The live workers of a queue, as they last said, at the ledger's `now`. `knowing` know one certain type;
    `claiming` of these take jobs, that is do not drain, and have `free` slots. `types`: what any of them
    knows, a hundred at most.
    """

    now: datetime
    workers: int
    slots: int
    knowing: int
    claiming: int
    free: int
    types: list[str]


class StatsQuery(Struct, frozen=True, kw_only=True):
    start: datetime
    end: datetime
    queue: str | None = None
    type: str | None = None


class Reports(Protocol):
    """Figures."""

    async def ledger_figures(
        self, queue: str, *, tenant_id: str | None, horizons_ms: Sequence[int]
    ) -> LedgerFigures: ...

    async def counts(self, queue: str, *, tenant_id: str | None) -> QueueFigures:
        """Waiting and running counted in the ledger."""

    async def crew(self, queue: str, job_type: str) -> Crew:
        """The live workers of a queue, and what they can do for jobs of this type."""

    async def stats(self, scope: Scope, query: StatsQuery) -> Mapping[str, object]:
        """`GET /api/jobs/stats` in the shape REST shows (contract, section 10)."""


class LetterFilter(Struct, frozen=True, kw_only=True):
    """Filters of dead letters. `status` None means any. Ages count from `failed_at`."""

    queue: str | None = None
    type: str | None = None
    error_classes: tuple[str, ...] = ()
    fingerprint: str | None = None
    status: Literal["dead", "requeued", "discarded"] | None = "dead"
    older_than_ms: int | None = None
    newer_than_ms: int | None = None


class RedrivePreview(Struct, frozen=True, kw_only=True):
    matched: int
    sample: list[DeadLetterRecord]
    digest: str


class RedriveResult(Struct, frozen=True, kw_only=True):
    requeued: int
    skipped: int
    remaining: int
    positions: list[Position]


class DigestUnknownError(LedgerError):
    """There is no such preview, it is spent, or it was made for another tenant."""


class DeadLetterStore(Protocol):
    """Dead letters: read, requeue, discard, reconcile."""

    async def get(self, scope: Scope, letter_id: UUID) -> DeadLetterRecord | None: ...

    async def find(
        self, scope: Scope, wanted: LetterFilter, *, limit: int, after: UUID | None
    ) -> Page[DeadLetterRecord]: ...

    async def requeue(
        self, scope: Scope, letter_id: UUID, actor: Actor
    ) -> tuple[RequeueResult, Position | None]:
        """Requeue the job of a dead letter. Refusals and errors as in `JobStore.retry`."""

    async def discard(
        self, scope: Scope, letter_id: UUID, actor: Actor
    ) -> Literal["discarded", "not_dead", "not_found"]: ...

    async def preview(
        self, scope: Scope, wanted: LetterFilter, *, max_redrives: int | None, batch_size: int
    ) -> RedrivePreview:
        """What an apply with the answered digest would move: `batch_size` letters at most, oldest first."""

    async def redrive(
        self,
        scope: Scope,
        wanted: LetterFilter,
        actor: Actor,
        *,
        digest: str | None,
        max_redrives: int | None,
        batch_size: int,
        reset_retries: bool,
        rate_per_second: float | None = None,
    ) -> RedriveResult:
        """Requeue what the digest previewed, or what matches now; with a rate their starts are spread.

        `reset_retries` False leaves the retry budget spent, so that each gets one attempt. Raises
        DigestUnknownError.
        """


class KeyHolder(Struct, frozen=True):
    """Whose idempotency key it is: keys of different users never meet."""

    tenant_id: str
    user_id: int
    key: str


class KeyState(Struct, frozen=True, kw_only=True):
    """What is known of an idempotency key.

    `is_taken`: the caller is to carry the submission out, storing its jobs under `job_ids`. Otherwise
    `status` and `answer` are those of the submission with that `body_hash`, None while it is under way.
    """

    is_taken: bool
    job_ids: tuple[UUID, ...]
    tried_at: datetime
    body_hash: bytes
    status: int | None
    answer: bytes | None


class KeyStore(Protocol):
    """Idempotency keys. Each holds for a day; a try that was not answered may be taken over by its like after
    some seconds, with the same job ids.
    """

    async def take(self, holder: KeyHolder, *, body_hash: bytes, job_ids: Sequence[UUID]) -> KeyState:
        """Take a free key, offering ids for the jobs, or say what is known of it. Durable when it returns."""

    async def answered(self, holder: KeyHolder, *, status: int, answer: bytes) -> None:
        """Keep the first answer."""

    async def free(self, holder: KeyHolder, *, tried_at: datetime) -> None:
        """The try that began then stored nothing: the key may be used again."""


class RetentionResult(Struct, frozen=True, kw_only=True):
    completed: int
    cancelled: int
    expired: int
    dead_letters: int
    audit: int


class RetentionStore(Protocol):
    async def apply(self, scope: Scope, *, queue: str | None, dry_run: bool, actor: Actor) -> RetentionResult:
        """Delete what is older than its queue's policy in bounded batches, each pruned job with an audit row.
        A dry run only counts. With a tenant in the scope the audit itself is left alone.
        """


class AuditFilter(Struct, frozen=True, kw_only=True):
    """The filters of `GET /api/audit`; None means any. `start` is included, `end` is not."""

    actor_id: str | None = None
    action: str | None = None
    job_id: UUID | None = None
    queue: str | None = None
    start: datetime | None = None
    end: datetime | None = None


class AuditPage(Struct, frozen=True):
    """Rows of the audit in the shape REST shows, and the mark to go on after; None on the last page."""

    rows: list[Mapping[str, object]]
    next_after: Mark | None


class AuditStore(Protocol):
    """The audit, which the ledger itself writes with each change."""

    async def find(self, tenant_id: str, wanted: AuditFilter, *, limit: int, after: Mark | None) -> AuditPage:
        """A tenant's rows, those of the newest transaction first. Raises QueryTooExpensiveError."""


class AuditEvent(Struct, frozen=True, kw_only=True):
    """What happened, as the audit's row has it. `tenant_id` None: to what all tenants share."""

    mark: Mark
    at: datetime
    tenant_id: str | None
    action: str
    job_id: UUID | None
    type: str | None
    queue: str | None
    from_status: str | None
    to_status: str | None
    attempt: int | None


class EventBatch(Struct, frozen=True):
    """Events in the order of the log, and the mark up to which there are no others. `is_whole` False: there
    are more.
    """

    events: list[AuditEvent]
    upto: Mark
    is_whole: bool


class EventStore(Protocol):
    """The log of events, which the ledger writes with its changes. Raises LedgerUnavailableError."""

    async def read(
        self,
        tenants: Sequence[str],
        *,
        after: Mark | None,
        until: Mark | None = None,
        limit: int,
        shared: bool = False,
    ) -> EventBatch:
        """What happened to these tenants, and to what all share when `shared`, behind one mark up to another;
        `after` None: nothing, but the mark of now. What commits later never comes before what was read.
        """

    async def summaries(self, tenant_id: str, job_ids: Sequence[UUID]) -> Mapping[UUID, Job]:
        """These jobs of the tenant, without their documents."""


WorkerState = Literal["running", "draining", "drained", "stopping", "lost"]


class WorkerRecord(Struct, frozen=True, kw_only=True):
    """A worker as its last beat left it, or `lost` once it has been silent for too long."""

    id: str
    pod: str
    queues: list[str]
    types: list[str]
    slots: int
    busy: int
    state: WorkerState
    drain_requested: bool
    started_at: datetime
    beat_at: datetime


DismissResult = Literal["gone", "alive", "not_found"]


class WorkerStore(Protocol):
    """Workers as people and the operator see them."""

    async def all(self) -> list[WorkerRecord]:
        """Every worker by id, those too that have been silent and are not yet forgotten."""

    async def set_drain(self, worker_id: str, asked: bool, actor: Actor) -> WorkerRecord | None:
        """Ask a worker to claim nothing more, or take it back; it hears of it with its next beat."""

    async def silence_ms(self, worker_id: str) -> int | None:
        """How long it has been silent while it could be heard; None when there is no such worker."""

    async def dismiss(
        self, worker_id: str, actor: Actor, *, silent_ms: int
    ) -> tuple[DismissResult, list[Position]]:
        """End the leases of a worker that has been silent for so long, and forget it; `alive` when it was
        heard of since. Answers also where its jobs belong now.
        """


class WebhookStore(Protocol):
    """Endpoints of tenants. The first half is for their admins, the second for who delivers."""

    async def all(self, tenant_id: str) -> list[Webhook]:
        """The tenant's endpoints, the oldest first."""

    async def get(self, tenant_id: str, webhook_id: UUID) -> Webhook | None: ...

    async def add(
        self, tenant_id: str, webhook_id: UUID, settings: WebhookSettings, secret: str, actor: Actor
    ) -> bool:
        """False when the tenant has MAX_WEBHOOKS endpoints already."""

    async def replace(
        self, tenant_id: str, webhook_id: UUID, settings: WebhookSettings, actor: Actor
    ) -> bool:
        """Its failures are forgotten. False when the tenant has no such endpoint, as of the next two."""

    async def remove(self, tenant_id: str, webhook_id: UUID, actor: Actor) -> bool: ...

    async def rotate(self, tenant_id: str, webhook_id: UUID, secret: str, actor: Actor) -> bool:
        """Sign with this secret from now on; the one before it holds OVERLAP_MS longer."""

    async def deliveries(self, webhook_id: UUID, *, limit: int, after: UUID | None) -> Page[Delivery]:
        """The newest event first. Whose endpoint it is, is for the caller to see to."""

    async def target(self, webhook_id: UUID) -> WebhookTarget | None:
        """Where to deliver, and what to sign with; None once the endpoint was removed."""

    async def delivered(self, webhook_id: UUID) -> None:
        """The endpoint took an event: its failures are forgotten."""

    async def failed(self, webhook_id: UUID, *, is_gone: bool) -> bool:
        """The endpoint did not take an event. True when it was disabled for that: it said that it is gone, or
        has failed MAX_FAILURES times in a row over FAILING_MS.
        """

    async def relay(self) -> Relayed:
        """Make the next audit rows into deliveries, each once, and store how far that went with them."""


class Ledger(Protocol):
    """PostgreSQL, by topic."""

    jobs: JobStore
    attempts: AttemptStore
    upkeep: Upkeep
    queues: QueueStore
    dead_letters: DeadLetterStore
    reports: Reports
    retention: RetentionStore
    keys: KeyStore
    workers: WorkerStore
    webhooks: WebhookStore
    audit: AuditStore
    events: EventStore

    async def ping(self) -> Mapping[str, object]:
        """Versions and schema state for readiness. Raises LedgerUnavailableError."""

    async def close(self) -> None: ...


class OpenLedger(Protocol):
    """Opens a ledger of its own connections, as the heartbeat thread needs it."""

    def __call__(self, *, connections: int) -> AbstractAsyncContextManager[Ledger]: ...


# ------------------------------------------------------------------------------------------ dispatcher


class Ended(Struct, frozen=True):
    """A claim to be released: its slot, its lease, and the worker time that its tenant is charged for.

    `token` is the fence: a claim that somebody else holds by now is left alone.
    """

    job_id: UUID
    run_ms: int
    token: UUID


class Step(Struct, frozen=True, kw_only=True):
    """The answer to one worker cycle. `claimed` pairs each id with the token that it was given.

    `more`: ready ids were left; `due_in_ms`: when the next one falls due; `cold`: Redis knows nothing of the
    queue (flushed, new), so claim from the ledger until a rebuild has run.
    """

    claimed: list[tuple[UUID, UUID]]
    more: bool
    due_in_ms: int | None
    paused: bool
    cold: bool


class Place(Struct, frozen=True, kw_only=True):
    """Where a waiting job stands in the dispatcher, with counts of its own tenant and, apart, of all.

    `where`: ready; due later; put off, for its claim was refused; aside, until a worker comes that knows its
    type; claimed just now; or nowhere, until a sweep finds it. `ahead`: ready jobs of the tenant that go
    before it; `tenants_ahead`: tenants whose turn comes before its own, None while its tenant may start
    nothing; `next_start_in_ms`: when a tenant that has spent its rate may go on.
    """

    where: Literal["ready", "due", "put_off", "aside", "claimed", "nowhere"]
    ahead: int | None
    comes_in_ms: int | None
    ready: int
    running: int
    running_of_all: int
    tenants_ahead: int | None
    tenants: int
    next_start_in_ms: int | None


class Dispatcher(Protocol):
    """Redis: order, leases, wake-ups. Everything in it may be lost. All calls raise
    DispatcherUnavailableError, and all may be repeated.
    """

    async def configure(self, record: QueueRecord) -> None:
        """Copy a queue's settings and pause state."""

    async def forget_queue(self, queue: str) -> None:
        """Remove every key of a deleted queue."""

    async def admit(self, queue: str, count: int, *, limit: int) -> int:
        """Reserve places for `count` submissions in the queue; answers how many were granted (all or a
        prefix). A place is taken by the push of its job or expires after some seconds. A cold queue cannot
        be counted: DispatcherUnavailableError.
        """

    async def take(self, tolls: Sequence[Toll]) -> list[Taken]:
        """Take tokens out of all of these buckets, or out of none when one has too few; how each stands then,
        in order. No bucket is named twice.
        """

    async def push(self, positions: Sequence[Position], *, reserved: int = 0) -> None:
        """Make Redis agree with the ledger's word on these jobs and wake a worker if any is ready.
        `reserved`: how many admission places these submissions give back.
        """

    async def step(
        self,
        queue: str,
        *,
        ended: Sequence[Ended],
        tokens: Sequence[UUID],
        lease_ms: int,
        types: Sequence[str] = (),
    ) -> Step:
        """Release what ended, promote what is due, claim up to one id a token. Ids that were put off because
        of their type are claimed only by who names it among `types`.
        """

    async def wait_for_work(self, queues: Sequence[str], *, at_most_ms: int) -> str | None:
        """Block until one of the queues is woken; None after `at_most_ms` (10 to 1,000)."""

    async def beat(self, queue: str, held: Sequence[tuple[UUID, UUID, str, int]]) -> list[UUID]:
        """Extend leases: (job id, token, tenant, visibility ms). A lost lease is made again. Answers the ids
        that are asked to stop.
        """

    async def ask_to_stop(self, queue: str, job_id: UUID) -> None:
        """A running job should stop: its worker hears of it at once or at its next beat."""

    async def overdue(self, queue: str, *, limit: int) -> list[tuple[UUID, UUID]]:
        """(job id, token) of leases whose visibility timeout has passed; each is put off for 5 s, so that a
        reaper that dies leaves them to the next.
        """

    async def missing(self, positions: Sequence[Position]) -> list[Position]:
        """Those of the given waiting jobs that Redis holds neither as ready nor leased, nor as due about when
        the ledger says; one that the ledger calls ready may be put off here.
        """

    async def figures(self, queue: str, *, tenant_id: str | None) -> QueueFigures | None:
        """Counts, a tenant's or all; None when Redis knows nothing of the queue."""

    async def place_of(self, queue: str, tenant_id: str, job_id: UUID) -> Place | None:
        """Where a job stands; None when Redis knows nothing of the queue."""

    async def is_cold(self, queue: str) -> bool:
        """Whether Redis has lost the queue and a rebuild is due."""

    async def rebuild(self, record: QueueRecord, pages: AsyncIterator[Sequence[Position]]) -> int:
        """Fill the queue from the ledger's pages and mark it warm; ids that no page named are dropped.
        Answers how many were copied.
        """

    async def ping(self) -> Mapping[str, object]:
        """Version and eviction policy for readiness."""

    async def close(self) -> None: ...


OpenDispatcher = Callable[[], Dispatcher]
"""Makes a dispatcher of its own connections, opened at its first call, as the heartbeat thread needs it."""
