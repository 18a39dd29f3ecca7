"""What the calls answer: one struct each, spelt as contract, sections 3 and 10, say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from ferryman.core.job import DeadLetterRecord, Inserted, Job
from ferryman.core.status import JobStatus
from ferryman.lifecycle.explain import Explanation
from ferryman.lifecycle.reasons import Code

MAX_LISTED_BYTES: Final = 4_096
_NULL: Final = Raw(b"null")

Id = Annotated[str, Meta(extra_json_schema={"format": "uuid"})]
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
JsonObject = Annotated[Raw, Meta(extra_json_schema={"type": "object"})]
JsonObjectOrNull = Annotated[Raw, Meta(extra_json_schema={"type": ["object", "null"]})]


def time(at: datetime) -> str:
    """RFC 3339 in UTC with milliseconds."""
    utc = at if at.tzinfo is UTC else at.astimezone(UTC)
    return utc.isoformat(timespec="milliseconds")[:-6] + "Z"


def time_or_none(at: datetime | None) -> str | None:
    return None if at is None else time(at)


def timed(value: Any) -> Any:
    """Rows of the ledger with every instant written as `time` does."""
    if isinstance(value, datetime):
        return time(value)
    if isinstance(value, Mapping):
        return {key: timed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [timed(item) for item in value]
    return value


class Shape(Struct, rename="camel"):
    """Base of all answers."""


class SubmittedView(Shape):
    """A job that was stored; `duplicate` when it was there before."""

    job_id: Id
    status: JobStatus
    queue: str
    type: str
    priority: int
    tenant_id: str
    user_id: int
    created_at: Time
    run_at: Time
    correlation_id: str
    trace_id: str | None
    duplicate: bool


class ForeignTwinView(Shape):
    """The unfinished job of another user that holds the unique key."""

    job_id: Id
    status: JobStatus
    duplicate: Literal[True]


SubmittedOrTwin = Annotated[
    Any,
    Meta(
        extra_json_schema={
            "anyOf": [
                {"$ref": "#/components/schemas/SubmittedView"},
                {"$ref": "#/components/schemas/ForeignTwinView"},
            ]
        }
    ),
]


class BulkView(Shape):
    """One entry a submission, in order: a SubmittedView, or a ForeignTwinView."""

    jobs: list[SubmittedOrTwin]


class ErrorView(Shape):
    class_: str = msgspec.field(name="class")
    message: str
    details: JsonObject


class ProgressView(Shape):
    percent: float | None
    note: str | None


class JobView(Shape):
    """A job. `timeoutMs` null: as its handler or its queue says. In lists, `input` and `output` over 4 KiB
    are left out, and `omitted` names them; `attempts` only come with a single job.
    """

    job_id: Id
    tenant_id: str
    user_id: int
    type: str
    queue: str
    status: JobStatus
    priority: int
    input: JsonObjectOrNull
    output: JsonObjectOrNull
    error: ErrorView | None
    attempt: int
    retry_count: int
    max_retries: int
    retry_delay_ms: int
    next_retry_at: Time | None
    crashes: int
    cancel_requested: bool
    visibility_timeout_ms: int
    timeout_ms: int | None
    progress: ProgressView | None
    tags: list[str]
    metadata: JsonObject
    unique_key: str | None
    worker_id: str | None
    correlation_id: str | None
    trace_id: str | None
    created_at: Time
    updated_at: Time
    run_at: Time
    started_at: Time | None
    completed_at: Time | None
    expires_at: Time | None
    omitted: list[str] | UnsetType = UNSET
    attempts: list[dict[str, Any]] | UnsetType = UNSET


class JobsView(Shape):
    jobs: list[JobView]
    next_cursor: str | None


class HistoryView(Shape):
    history: list[dict[str, Any]]
    next_cursor: str | None


class ReasonView(Shape):
    code: Code
    message: str
    details: dict[str, Any]


class EstimateView(Shape):
    earliest: Time
    latest: Time


class ExplanationView(Shape):
    """Why a job is not running, the first to be removed first; none when it runs or has ended. `source` says
    who knew its place.
    """

    job_id: Id
    status: JobStatus
    reasons: list[ReasonView]
    estimated_start: EstimateView | None
    source: Literal["redis", "ledger"]


class AuditView(Shape):
    entries: list[dict[str, Any]]
    next_cursor: str | None


class ChangedView(Shape):
    """The job as the change left it."""

    job_id: Id
    status: JobStatus


class LetterView(Shape):
    dead_letter_id: Id
    original_job_id: Id
    tenant_id: str
    user_id: int
    type: str
    queue: str
    status: Literal["dead", "requeued", "discarded"]
    reason: str
    error: ErrorView
    fingerprint: str
    attempts: Annotated[Raw, Meta(extra_json_schema={"type": "array", "items": {"type": "object"}})]
    retry_count: int
    max_retries: int
    redrives: int
    input: JsonObjectOrNull
    tags: list[str]
    metadata: JsonObject
    worker_id: str | None
    failed_at: Time
    original_created_at: Time
    omitted: list[str] | UnsetType = UNSET


class LettersView(Shape):
    dead_letters: list[LetterView]
    next_cursor: str | None


class ClosedLetterView(Shape):
    """The dead letter as the change left it."""

    dead_letter_id: Id
    status: Literal["requeued", "discarded"]


class PreviewView(Shape):
    """What an apply with this digest would move."""

    matched: int
    sample: list[LetterView]
    digest: str


def submitted_view(
    inserted: Inserted, job_type: str, *, user_id: int, correlation_id: str, trace_id: str | None
) -> SubmittedView | ForeignTwinView:
    """The answer to a submission; of another user's job not more than that it is there."""
    if inserted.duplicate and inserted.user_id != user_id:
        return ForeignTwinView(job_id=str(inserted.id), status=inserted.status, duplicate=True)
    created_at = time(inserted.created_at)
    return SubmittedView(
        job_id=str(inserted.id),
        status=inserted.status,
        queue=inserted.queue,
        type=job_type,
        priority=inserted.priority,
        tenant_id=inserted.tenant_id,
        user_id=inserted.user_id,
        created_at=created_at,
        run_at=created_at if inserted.run_at == inserted.created_at else time(inserted.run_at),
        correlation_id=correlation_id,
        trace_id=trace_id,
        duplicate=inserted.duplicate,
    )


def job_view(
    job: Job, *, attempts: list[Mapping[str, object]] | None = None, is_listed: bool = False
) -> JobView:
    """A job in answers."""
    omitted = _omitted(is_listed, input=job.input, output=job.output)
    return JobView(
        job_id=str(job.id),
        tenant_id=job.tenant_id,
        user_id=job.user_id,
        type=job.type,
        queue=job.queue,
        status=job.status,
        priority=job.priority,
        input=_NULL if "input" in omitted else Raw(job.input),
        output=_NULL if "output" in omitted or job.output is None else Raw(job.output),
        error=_error(job.error_class, job.error_message, job.error_details),
        attempt=job.attempt,
        retry_count=job.retry_count,
        max_retries=job.max_retries,
        retry_delay_ms=job.retry_delay_ms,
        next_retry_at=time(job.run_at) if job.status is JobStatus.RETRYING else None,
        crashes=job.crashes,
        cancel_requested=job.cancel_requested,
        visibility_timeout_ms=job.visibility_timeout_ms,
        timeout_ms=job.timeout_ms,
        progress=_progress(job),
        tags=job.tags,
        metadata=Raw(job.metadata),
        unique_key=job.unique_key,
        worker_id=job.worker_id,
        correlation_id=job.correlation_id,
        trace_id=None if job.traceparent is None else job.traceparent[3:35],
        created_at=time(job.created_at),
        updated_at=time(job.updated_at),
        run_at=time(job.run_at),
        started_at=time_or_none(job.started_at),
        completed_at=time_or_none(job.completed_at),
        expires_at=time_or_none(job.expires_at),
        omitted=omitted or UNSET,
        attempts=UNSET if attempts is None else timed(attempts),
    )


def letter_view(letter: DeadLetterRecord, *, is_listed: bool = False) -> LetterView:
    """A dead letter in answers."""
    omitted = _omitted(is_listed, input=letter.input)
    return LetterView(
        dead_letter_id=str(letter.id),
        original_job_id=str(letter.original_job_id),
        tenant_id=letter.tenant_id,
        user_id=letter.user_id,
        type=letter.type,
        queue=letter.queue,
        status=letter.status,
        reason=letter.reason,
        error=ErrorView(class_=letter.failure_class, message=letter.message, details=Raw(letter.details)),
        fingerprint=letter.fingerprint,
        attempts=Raw(letter.attempts),
        retry_count=letter.retry_count,
        max_retries=letter.max_retries,
        redrives=letter.redrives,
        input=_NULL if omitted else Raw(letter.input),
        tags=letter.tags,
        metadata=Raw(letter.metadata),
        worker_id=letter.worker_id,
        failed_at=time(letter.failed_at),
        original_created_at=time(letter.original_created_at),
        omitted=omitted or UNSET,
    )


def explanation_view(explained: Explanation) -> ExplanationView:
    """An explanation in answers."""
    start = explained.estimate
    return ExplanationView(
        job_id=str(explained.job.id),
        status=explained.job.status,
        reasons=[ReasonView(one.code, one.message, timed(one.details)) for one in explained.reasons],
        estimated_start=None if start is None else EstimateView(time(start.earliest), time(start.latest)),
        source=explained.source,
    )


def _error(error_class: str | None, message: str | None, details: bytes | None) -> ErrorView | None:
    if error_class is None:
        return None
    return ErrorView(class_=error_class, message=message or "", details=Raw(details or b"{}"))


def _progress(job: Job) -> ProgressView | None:
    if job.progress_percent is None and job.progress_note is None:
        return None
    return ProgressView(percent=job.progress_percent, note=job.progress_note)


def _omitted(is_listed: bool, **documents: bytes | None) -> list[str]:
    if not is_listed:
        return []
    return [name for name, raw in documents.items() if raw is not None and len(raw) > MAX_LISTED_BYTES]
