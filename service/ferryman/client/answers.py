"""What the API answers, as types. Fields that a newer API adds are left out."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from ferryman.core.status import JobStatus, is_final


class JobFailure(Struct, frozen=True, rename={"error_class": "class"}):
    """Why the last attempt failed."""

    error_class: str
    message: str
    details: dict[str, Any] | None = None


class Progress(Struct, frozen=True):
    """What the handler last said of its progress."""

    percent: float | None = None
    note: str | None = None


class Submitted(Struct, frozen=True, kw_only=True, rename="camel"):
    """A job that is stored. `duplicate`: it was there already, under the same unique key."""

    job_id: str
    status: JobStatus
    queue: str | None = None
    duplicate: bool = False


class Job(Struct, frozen=True, kw_only=True, rename="camel"):
    """A job as its owner sees it. Instants are aware, UTC; durations are milliseconds."""

    job_id: str
    tenant_id: str
    user_id: int
    type: str
    queue: str
    status: JobStatus
    priority: int = 0
    input: Any = None
    output: Any = None
    error: JobFailure | None = None
    attempt: int = 0
    retry_count: int = 0
    max_retries: int = 0
    next_retry_at: datetime | None = None
    visibility_timeout_ms: int | None = None
    timeout_ms: int | None = None
    progress: Progress | None = None
    tags: list[str] = []
    metadata: dict[str, Any] = {}
    unique_key: str | None = None
    worker_id: str | None = None
    correlation_id: str | None = None
    trace_id: str | None = None
    created_at: datetime
    updated_at: datetime | None = None
    run_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    expires_at: datetime | None = None
    attempts: list[dict[str, Any]] = []

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen to it by itself."""
        return is_final(self.status)


class Reason(Struct, frozen=True):
    """One reason why a job is not running: a code, the same in words, and its numbers."""

    code: str
    message: str
    details: dict[str, Any] = {}


class EstimatedStart(Struct, frozen=True):
    """When a job may start, if things go on as they went."""

    earliest: datetime
    latest: datetime


class Explanation(Struct, frozen=True, kw_only=True, rename="camel"):
    """Why a job is not running, the first to be removed first; no reasons when it runs or has ended."""

    job_id: str
    status: JobStatus
    reasons: list[Reason]
    estimated_start: EstimatedStart | None = None
    source: str | None = None


class JobPage(Struct, frozen=True, rename="camel"):
    """One page of a list, newest first; `next_cursor` leads to the next one."""

    jobs: list[Job]
    next_cursor: str | None = None
