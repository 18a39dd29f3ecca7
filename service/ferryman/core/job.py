"""The shapes of a job on its way: submitted, stored, claimed, settled."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal
from uuid import UUID

from msgspec import Struct

from ferryman.core.failures import Failure
from ferryman.core.status import JobStatus
from ferryman.core.verdict import Verdict


class ActorKind(StrEnum):
    """Who did it, as the audit names them."""

    USER = "user"
    ADMIN = "admin"
    PLATFORM = "platform"
    SERVICE = "service"
    WORKER = "worker"
    MAINTAINER = "maintainer"


class Actor(Struct, frozen=True, kw_only=True):
    """Who acts, with what right, in which request: what an audit row says beside the change itself."""

    kind: ActorKind
    id: str
    correlation_id: str | None = None
    trace_id: str | None = None
    override: bool = False
    override_reason: str | None = None


class NewJob(Struct, kw_only=True):
    """A job to be inserted. JSON documents are bytes that were checked before (`api.documents`).

    `run_in_ms` and `expires_in_ms` count from the insert; the ledger's clock turns them into instants.
    `max_retries_given` and `retry_delay_given` say that the number was asked for by the submission or by
    the queue for this type, so a handler's decorator must not change it.
    """

    id: UUID
    tenant_id: str
    user_id: int
    type: str
    queue: str
    priority: int = 0
    input: bytes = b"{}"
    max_retries: int
    max_retries_given: bool = False
    retry_delay_ms: int
    retry_delay_given: bool = False
    visibility_timeout_ms: int
    timeout_ms: int | None = None
    run_in_ms: int = 0
    run_at: datetime | None = None
    expires_in_ms: int | None = None
    expires_at: datetime | None = None
    tags: list[str] = []
    metadata: bytes = b"{}"
    unique_key: str | None = None
    correlation_id: str
    traceparent: str | None = None
    parent_id: UUID | None = None


class Inserted(Struct, frozen=True, kw_only=True):
    """What became of a submission. `duplicate`: an unfinished twin with this unique key was there already."""

    id: UUID
    queue: str
    tenant_id: str
    user_id: int
    status: JobStatus
    priority: int
    run_at: datetime
    created_at: datetime
    ready_ms: int
    due_in_ms: int
    duplicate: bool = False


class Job(Struct, frozen=True, kw_only=True):
    """A whole row, as `GET /api/jobs/{jobId}` shows it. `input`, `output`, `metadata` are JSON documents."""

    id: UUID
    tenant_id: str
    user_id: int
    type: str
    queue: str
    status: JobStatus
    priority: int
    input: bytes
    output: bytes | None
    error_class: str | None
    error_message: str | None
    error_details: bytes | None
    fingerprint: str | None
    attempt: int
    retry_count: int
    max_retries: int
    retry_delay_ms: int
    crashes: int
    visibility_timeout_ms: int
    timeout_ms: int | None
    progress_percent: float | None
    progress_note: str | None
    tags: list[str]
    metadata: bytes
    unique_key: str | None
    worker_id: str | None
    cancel_requested: bool
    correlation_id: str | None
    traceparent: str | None
    created_at: datetime
    updated_at: datetime
    run_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    expires_at: datetime | None


class Claimed(Struct, kw_only=True):
    """A job that this worker may run until its lease ends. `token` is the fence of every later write."""

    id: UUID
    token: UUID
    attempt: int
    tenant_id: str
    user_id: int
    type: str
    queue: str
    priority: int
    input: bytes
    failures: int
    crashes: int
    max_retries: int
    max_retries_given: bool
    retry_delay_ms: int
    retry_delay_given: bool
    visibility_timeout_ms: int
    timeout_ms: int | None
    tags: list[str]
    metadata: bytes
    cursor: bytes | None
    correlation_id: str | None
    traceparent: str | None
    unique_key: str | None
    created_at: datetime
    started_at: datetime
    wait_ms: int


class Settlement(Struct, kw_only=True):
    """One attempt's end, to be written under its token. `children` are inserted in the same statement."""

    id: UUID
    token: UUID
    attempt: int
    verdict: Verdict
    run_ms: int
    wait_ms: int
    max_retries: int
    children: list[NewJob] = []


class Beat(Struct, kw_only=True):
    """A worker's sign of life, with the attempts whose leases it extends."""

    worker_id: str
    pod: str
    queues: list[str]
    types: list[str]
    slots: int
    busy: int
    state: Literal["running", "draining", "drained", "stopping"]
    held: list[tuple[UUID, UUID]]  # (job id, token)


class BeatAnswer(Struct, frozen=True, kw_only=True):
    """What the ledger answers to a beat."""

    lost: frozenset[UUID]  # ids whose token no longer holds
    cancelled: frozenset[UUID]  # ids whose cancellation was asked for
    drain: bool


class Position(Struct, frozen=True, kw_only=True):
    """Where a job belongs in the dispatcher, by the ledger: the answer that `resync` copies into Redis.

    `kind`: waiting (ready by `score`, or due in `due_in_ms` from the read; `retrying` once it was tried),
    running (leave its lease, or make one for `lease_ms` in the name of `token`), gone (final or no such row).
    `put_off`: ready by the ledger, but a claim was refused: for `due_in_ms`, or until a worker comes that
    knows its `type`. The type is given then, and where `JobStore.positions` answers.
    """

    id: UUID
    queue: str
    tenant_id: str
    kind: Literal["waiting", "running", "gone"]
    score: float = 0
    due_in_ms: int = 0
    retrying: bool = False
    lease_ms: int = 0
    token: UUID | None = None
    type: str = ""
    put_off: Literal["for_a_while", "by_type"] | None = None


class DeadLetterRecord(Struct, frozen=True, kw_only=True):
    """A dead letter as REST shows it (contract, section 10). JSON documents are bytes."""

    id: UUID
    original_job_id: UUID
    tenant_id: str
    user_id: int
    type: str
    queue: str
    status: Literal["dead", "requeued", "discarded"]
    reason: str
    failure_class: str
    message: str
    details: bytes
    fingerprint: str
    attempts: bytes
    retry_count: int
    max_retries: int
    redrives: int
    input: bytes
    tags: list[str]
    metadata: bytes
    worker_id: str | None
    failed_at: datetime
    original_created_at: datetime


__all__ = [
    "Actor",
    "ActorKind",
    "Beat",
    "BeatAnswer",
    "Claimed",
    "DeadLetterRecord",
    "Failure",
    "Inserted",
    "Job",
    "NewJob",
    "Position",
    "Settlement",
]
