"""Jobs: submit, read, wait, cancel, retry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

import msgspec

from ferryman.api.bodies import BodyReader, QueryReader
from ferryman.api.cursors import encode_cursor, read_cursor
from ferryman.api.exchange import Answer, Exchange, idempotency_key
from ferryman.api.rates import note
from ferryman.api.routing import Example, Route
from ferryman.api.schemas import (
    BulkSubmission,
    HistoryQuery,
    JobsQuery,
    JobSubmission,
    WaitQuery,
    given,
    order_of,
    orders_of,
)
from ferryman.api.services import Services
from ferryman.api.views import (
    BulkView,
    ChangedView,
    ExplanationView,
    ForeignTwinView,
    HistoryView,
    JobsView,
    JobView,
    SubmittedView,
    explanation_view,
    job_view,
    submitted_view,
    timed,
)
from ferryman.auth.policy import Call
from ferryman.core.job import Inserted
from ferryman.lifecycle.failures import NotFoundError
from ferryman.lifecycle.orders import Order
from ferryman.lifecycle.replays import Reply
from ferryman.ports import JobFilter

_JOBS: Final = "jobs"
_HISTORY: Final = "history"


async def submit(services: Services, exchange: Exchange) -> Answer:
    order = order_of(exchange.body, now=services.given.clock.now())

    async def carry_out(job_ids: Sequence[UUID]) -> tuple[int, SubmittedView | ForeignTwinView]:
        note(exchange.request, await services.rates.submission(exchange.asker, {order.queue: 1}))
        inserted = await services.submission.submit(exchange.asker, order, job_ids[0])
        return 200 if inserted.duplicate else 201, _view(exchange, order, inserted)

    return await _once(services, exchange, [services.submission.new_id()], carry_out)


async def submit_bulk(services: Services, exchange: Exchange) -> Answer:
    orders = orders_of(exchange.body, now=services.given.clock.now())

    async def carry_out(job_ids: Sequence[UUID]) -> tuple[int, BulkView]:
        wanted = Counter(order.queue for order in orders)
        note(exchange.request, await services.rates.submission(exchange.asker, wanted))
        inserted = await services.submission.submit_all(exchange.asker, orders, job_ids)
        views = [_view(exchange, order, one) for order, one in zip(orders, inserted, strict=True)]
        return 200 if all(one.duplicate for one in inserted) else 201, BulkView(views)

    return await _once(services, exchange, [services.submission.new_id() for _ in orders], carry_out)


async def _once(
    services: Services,
    exchange: Exchange,
    offered: Sequence[UUID],
    carry_out: Callable[[Sequence[UUID]], Awaitable[tuple[int, Any]]],
) -> Answer:
    """The answer of a submission; under an Idempotency-Key the first one, whenever it is sent again."""
    key = idempotency_key(exchange.request)
    if key is None:
        status, view = await carry_out(offered)
        return Answer(status, view, _location(view))

    async def reply(job_ids: Sequence[UUID]) -> Reply:
        status, view = await carry_out(job_ids)
        return Reply(status, msgspec.json.encode(view))

    request = exchange.request.path.encode() + b"\n" + (exchange.raw or b"")
    first = await services.replays.once(exchange.asker, key, request, offered, reply)
    headers = {"Idempotent-Replayed": "true"} if first.is_replay else {}
    return Answer(first.status, msgspec.Raw(first.body), headers | _location(msgspec.json.decode(first.body)))


def _location(view: Any) -> dict[str, str]:
    """Where the one job of an answer is."""
    job_id = view.get("jobId") if isinstance(view, dict) else getattr(view, "job_id", None)
    return {} if job_id is None else {"Location": f"/api/jobs/{job_id}"}


def _view(exchange: Exchange, order: Order, inserted: Inserted) -> SubmittedView | ForeignTwinView:
    asker = exchange.asker
    return submitted_view(
        inserted,
        order.type,
        user_id=asker.principal.user_id or 0,
        correlation_id=asker.correlation_id,
        trace_id=asker.trace_id,
    )


async def list_jobs(services: Services, exchange: Exchange) -> Answer:
    query: JobsQuery = exchange.query
    wanted = JobFilter(
        statuses=tuple(query.status),
        types=tuple(query.type),
        queues=tuple(query.queue),
        tags=tuple(query.tag),
        user_ids=tuple(query.user_id),
        metadata=query.metadata,
        created_after=given(query.created_after),
        created_before=given(query.created_before),
    )
    after = read_cursor(_JOBS, query.cursor)
    page = await services.lookup.jobs(exchange.asker, wanted, limit=query.limit, after=after)
    next_cursor = encode_cursor(_JOBS, page.next_after) if page.next_after else None
    return Answer(200, JobsView([job_view(job, is_listed=True) for job in page.rows], next_cursor))


async def get_job(services: Services, exchange: Exchange) -> Answer:
    job_id = exchange.id("jobId", "job")
    job, attempts = await services.lookup.job_with_attempts(exchange.asker, job_id)
    return Answer(200, job_view(job, attempts=attempts))


async def history(services: Services, exchange: Exchange) -> Answer:
    query: HistoryQuery = exchange.query
    after = read_cursor(_HISTORY, query.cursor)
    page = await services.lookup.history(
        exchange.asker, exchange.id("jobId", "job"), limit=query.limit, after=after
    )
    next_cursor = encode_cursor(_HISTORY, page.next_after) if page.next_after else None
    return Answer(200, HistoryView(timed(page.rows), next_cursor))


async def explain(services: Services, exchange: Exchange) -> Answer:
    explained = await services.explain.job(exchange.asker, exchange.id("jobId", "job"))
    return Answer(200, explanation_view(explained))


async def wait(services: Services, exchange: Exchange) -> Answer:
    job_id = exchange.id("jobId", "job")
    job, attempts = await services.lookup.job_with_attempts(exchange.asker, job_id)
    await services.waits.until_final(job, at_most_ms=exchange.query.timeout_ms)
    with suppress(NotFoundError):  # retention took it: what was read before is the best that is known
        job, attempts = await services.lookup.job_with_attempts(exchange.asker, job_id)
    return Answer(200, job_view(job, attempts=attempts))


async def cancel(services: Services, exchange: Exchange) -> Answer:
    job_id = exchange.id("jobId", "job")
    status = await services.changes.cancel(exchange.asker, job_id)
    return Answer(202, ChangedView(str(job_id), status))


async def retry(services: Services, exchange: Exchange) -> Answer:
    job_id = exchange.id("jobId", "job")
    status = await services.changes.retry(exchange.asker, job_id)
    return Answer(202, ChangedView(str(job_id), status))


ROUTES: Final = (
    Route(
        method="POST",
        path="/api/jobs",
        name="submitJob",
        summary="Submit one job",
        details="The job is stored durably before the answer. `message` is the short form of an `input`.",
        tag="jobs",
        call=Call.JOB_SUBMIT,
        handle=submit,
        is_bounded=False,
        body=BodyReader(JobSubmission),
        answers={
            201: (SubmittedView, "The job is stored; Location leads to it"),
            200: (SubmittedView, "An unfinished job holds the uniqueKey"),
        },
        problems=(
            "unknown_queue",
            "queue_full",
            "idempotency_mismatch",
            "idempotency_in_flight",
            "outcome_unknown",
        ),
        headers=("Idempotency-Key",),
        examples=(
            Example(
                body={"message": "Test enterprise job pipeline", "type": "chat"},
                status=201,
            ),
            Example(
                body={
                    "type": "notification",
                    "input": {"to": "ann@example.org", "template": "welcome"},
                    "queue": "high_priority",
                    "priority": 10,
                    "delayMs": 60000,
                    "tags": ["welcome"],
                    "metadata": {"order": 1234},
                },
                status=201,
            ),
        ),
    ),
    Route(
        method="POST",
        path="/api/jobs/bulk",
        name="submitJobs",
        summary="Submit up to 1,000 jobs, all or none",
        tag="jobs",
        call=Call.JOB_SUBMIT,
        handle=submit_bulk,
        is_bounded=False,
        body=BodyReader(BulkSubmission, envelope=3),
        answers={
            201: (BulkView, "The jobs are stored, in the order of the request"),
            200: (BulkView, "Every job was there before"),
        },
        problems=(
            "unknown_queue",
            "too_many_at_once",
            "queue_full",
            "idempotency_mismatch",
            "idempotency_in_flight",
            "outcome_unknown",
        ),
        headers=("Idempotency-Key",),
        examples=(
            Example(
                body={
                    "jobs": [
                        {"type": "chat", "message": "one"},
                        {"type": "memory", "input": {"key": "two"}, "queue": "background"},
                    ]
                },
                status=201,
            ),
        ),
    ),
    Route(
        method="GET",
        path="/api/jobs",
        name="listJobs",
        summary="List jobs, newest first",
        details="Filters of one name are alternatives; several names, tags and metadata must all hold.",
        tag="jobs",
        call=Call.JOB_READ,
        handle=list_jobs,
        query=QueryReader(JobsQuery),
        answers={200: (JobsView, "One page")},
        problems=("invalid_cursor", "query_too_expensive"),
        examples=(
            Example(query="status=pending&status=running&limit=20"),
            Example(query="metadata.order=1234"),
        ),
    ),
    Route(
        method="GET",
        path="/api/jobs/{jobId}",
        name="getJob",
        summary="Read a job with its attempts and retry state",
        tag="jobs",
        call=Call.JOB_READ,
        handle=get_job,
        answers={200: (JobView, "The job")},
        problems=("not_found",),
        examples=(Example(),),
    ),
    Route(
        method="GET",
        path="/api/jobs/{jobId}/history",
        name="getJobHistory",
        summary="Read what happened to a job, oldest first",
        tag="jobs",
        call=Call.JOB_READ,
        handle=history,
        query=QueryReader(HistoryQuery),
        answers={200: (HistoryView, "Audit rows of the job")},
        problems=("not_found", "invalid_cursor"),
        examples=(Example(query="limit=100"),),
    ),
    Route(
        method="GET",
        path="/api/jobs/{jobId}/explain",
        name="explainJob",
        summary="Read why a job is not running",
        details=(
            "Every reason that holds, the first to be removed first, and when the job may start, as a range, "
            "where the queue's work for its tenant was measured in the last minute. While Redis is away "
            "(`source` ledger) caps, rates and shares do not hold, and its place is not known."
        ),
        tag="jobs",
        call=Call.JOB_READ,
        handle=explain,
        answers={200: (ExplanationView, "The reasons; none when it runs or has ended")},
        problems=("not_found", "query_too_expensive"),
        examples=(Example(),),
    ),
    Route(
        method="GET",
        path="/api/jobs/{jobId}/wait",
        name="waitForJob",
        summary="Read a job as soon as it has ended, or when the time is over",
        tag="jobs",
        call=Call.JOB_READ,
        handle=wait,
        is_bounded=False,
        query=QueryReader(WaitQuery),
        answers={200: (JobView, "The job, ended or not")},
        problems=("not_found", "too_many_waits"),
        examples=(Example(query="timeoutMs=10"),),
    ),
    Route(
        method="POST",
        path="/api/jobs/{jobId}/cancel",
        name="cancelJob",
        summary="Cancel a job",
        details="A waiting job ends at once, a running one within two heartbeats of its worker.",
        tag="jobs",
        call=Call.JOB_CHANGE,
        handle=cancel,
        answers={202: (ChangedView, "It has ended, or was asked to stop")},
        problems=("not_found", "already_final"),
        headers=("X-Override-Reason",),
        examples=(Example(status=202),),
    ),
    Route(
        method="POST",
        path="/api/jobs/{jobId}/retry",
        name="retryJob",
        summary="Run a retrying job now, or requeue a dead letter",
        tag="jobs",
        call=Call.JOB_CHANGE,
        handle=retry,
        answers={202: (ChangedView, "It is ready to run")},
        problems=("not_found", "not_retryable", "twin_unfinished", "unknown_queue"),
        headers=("X-Override-Reason",),
    ),
)
